//! R2: everything that can be a target.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use everbeat::{Error, OnError, Plain, Tick, Timer, Value, offload};

const SECOND: Duration = Duration::from_secs(1);

struct Snapshot {
    load: u64,
}
impl Value for Snapshot {}

struct Foreign(u64);

/// A timer that runs once.
fn once() -> everbeat::Builder {
    Timer::every(Duration::MAX)
}

/// The value of the first run.
async fn first<V: Send + Sync + 'static>(timer: &Timer<V>) -> Result<Arc<V>, Error> {
    timer.wait_hits(1).await?;
    Ok(timer.latest().expect("it has a hit"))
}

async fn fetch(number: u64) -> std::io::Result<u64> {
    tokio::task::yield_now().await;
    Ok(number)
}

#[tokio::test(start_paused = true)]
async fn r2_async_closures_with_and_without_tick() -> Result<(), Error> {
    let with_tick = once().start(|tick: Tick| async move { fetch(tick.run).await })?;
    let inferred = once().start(|_| async { 7_u8 })?;
    let without = once().start(|| async { fetch(3).await })?;
    let function = once().start(|| fetch(4))?;
    let shared = Arc::new(5_u64);
    let capturing = once().start(move |tick: Tick| {
        let shared = shared.clone();
        async move { *shared + tick.run }
    })?;
    assert_eq!(*first(&with_tick).await?, 1);
    assert_eq!(*first(&inferred).await?, 7);
    assert_eq!(*first(&without).await?, 3);
    assert_eq!(*first(&function).await?, 4);
    assert_eq!(*first(&capturing).await?, 6);
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn r2_sync_closures() -> Result<(), Error> {
    let unit = once().start(|| ())?;
    let inferred = once().start(|_| 1)?;
    let fallible = once().start(|tick: Tick| "12".parse::<u64>().map(|n| n + tick.run))?;
    let custom = once().start(|| Snapshot { load: 3 })?;
    let plain = once().start(|tick: Tick| Plain(Foreign(tick.run)))?;
    let map = once().start(|| HashMap::from([("a", 1)]))?;
    let text_error = once()
        .initial_delay(SECOND)
        .on_error(OnError::Continue)
        .start(|| if true { Err("no luck") } else { Ok(1) })?;
    first(&unit).await?;
    assert_eq!(*first(&inferred).await?, 1);
    assert_eq!(*first(&fallible).await?, 13);
    assert_eq!(first(&custom).await?.load, 3);
    assert_eq!(first(&plain).await?.0, 1);
    assert_eq!(first(&map).await?["a"], 1);
    assert!(matches!(text_error.join().await, Err(Error::Failed { .. })));
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn r2_iterators_and_their_factories() -> Result<(), Error> {
    let direct = Timer::every(SECOND).start(1..=3)?;
    let factory = Timer::every(SECOND).start(|| (1..=3).map(Ok::<i32, std::io::Error>))?;
    assert_eq!(direct.wait().await?, everbeat::StopReason::Exhausted);
    assert_eq!((direct.hits(), *direct.latest().unwrap()), (3, 3));
    factory.wait().await?;
    factory.start()?;
    factory.wait().await?;
    assert_eq!(factory.hits(), 6);
    direct.start()?;
    direct.wait().await?;
    assert_eq!(direct.hits(), 3, "a used up iterator has no more values");
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn r2_streams_and_their_factories() -> Result<(), Error> {
    let stream = || {
        let (sender, receiver) = tokio::sync::mpsc::channel(4);
        for number in 0..3 {
            sender.try_send(number).unwrap();
        }
        tokio_stream::wrappers::ReceiverStream::new(receiver)
    };
    let direct = Timer::every(SECOND).start(stream())?;
    let factory = Timer::every(SECOND).start(stream)?;
    direct.wait().await?;
    factory.wait().await?;
    factory.start()?;
    factory.wait().await?;
    assert_eq!((direct.hits(), factory.hits()), (3, 6));
    Ok(())
}

#[tokio::test]
async fn r7_offloaded_closures() -> Result<(), Error> {
    let home = std::thread::current().id();
    let away = once().start(offload(move || std::thread::current().id() != home))?;
    assert!(*first(&away).await?);
    away.cancel().await;
    Ok(())
}
