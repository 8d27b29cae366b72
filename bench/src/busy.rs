//! Period 0: as many runs as there is time for, beside a loop that only gives way.

use std::thread;
use std::time::Duration;

use everbeat::thread::Engine;
use everbeat::{Builder, Timer};

use crate::cases::Group;
use crate::measure::{Counter, Figures, Window};
use crate::tasks::on_runtime;

pub(crate) fn groups(quick: bool) -> Vec<Group> {
    let length = Duration::from_millis(if quick { 300 } else { 2000 });
    vec![
        Group::new("period-0")
            .case("everbeat-tokio", move || measure(length, || on_runtime(0, forever())))
            .case("everbeat-inline", move || {
                measure(length, || start(Engine::default().every(Duration::ZERO).inline()))
            })
            .case("everbeat-pooled", move || {
                measure(length, || start(Engine::default().every(Duration::ZERO)))
            })
            .case("yield-now-loop", move || measure(length, || on_runtime(0, give_way())))
            .case("yield-now-task", move || measure(length, || on_runtime(0, in_a_task(give_way())))),
    ]
}

fn measure<K>(length: Duration, start: impl FnOnce() -> K) -> Figures {
    let kept = start();
    thread::sleep(length / 10);
    let window = Window::measure(length);
    drop(kept);
    vec![("ns CPU/tick", window.cpu_per_tick()), ("ticks/s", window.ticks as f64 / window.wall.as_secs_f64())]
}

fn start(builder: Builder) -> Timer<()> {
    let mut counter = Counter::default();
    builder.histograms(false).start(move || counter.tick(0)).expect("a thread or a runtime")
}

async fn forever() {
    let timer = start(Timer::every(Duration::ZERO));
    std::future::pending::<()>().await;
    drop(timer);
}

async fn in_a_task(task: impl Future<Output = ()> + Send + 'static) {
    tokio::spawn(task).await.expect("a loop without an end");
}

async fn give_way() {
    let mut counter = Counter::default();
    loop {
        counter.tick(0);
        tokio::task::yield_now().await;
    }
}
