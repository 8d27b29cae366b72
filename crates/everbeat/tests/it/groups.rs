//! G: timers that start and stop together.

use std::sync::Mutex;

use everbeat::{AnyTimer, Error, Group, Shutdown, StopReason, Tick, Timer};
use tokio::time::sleep;

use crate::logs::Log;
use crate::support::{Journal, LIMIT, SECOND, Stopwatch, every, ms, much};

fn two() -> Result<Group, Error> {
    let group = Group::named("pair");
    group.add(every(10).name("a").build(|tick: Tick| tick.run)?)?;
    group.add(every(30).name("b").build(|tick: Tick| async move { format!("run {}", tick.run) })?)?;
    Ok(group)
}

fn names<'a>(timers: impl IntoIterator<Item = &'a AnyTimer>) -> Vec<String> {
    timers.into_iter().map(|timer| timer.name().to_string()).collect()
}

#[tokio::test(start_paused = true)]
async fn g1_requests_go_to_all_and_answers_come_in_order() -> Result<(), Error> {
    let group = two()?;
    assert!(!group.is_running());
    group.start()?;
    assert!(group.is_running());
    let clock = Stopwatch::start();
    group.wait_hits(3).await.all()?;
    assert_eq!(clock.millis(), 60, "all members, so the slowest decides");
    let values = group.trigger().await.all()?;
    assert_eq!(names(values.iter().map(|(timer, _)| timer)), ["a", "b"]);
    assert!(values[0].1.is::<u64>());
    assert_eq!(values[1].1.downcast_ref::<String>().unwrap(), "run 4");
    group.wait_more(1).await.all()?;
    let reasons = group.cancel().await.into_vec();
    assert!(reasons.iter().all(|(_, reason)| *reason == StopReason::Cancelled));
    assert!(!group.is_running());
    assert!(group.wait().await.all().is_ok());
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn g1_failures_are_collected_per_member_and_a_timeout_bounds_the_whole() -> Result<(), Error> {
    let group = two()?;
    group.add(every(10).name("c").build(|| sleep(ms(100_000)))?)?;
    group.add(every(10).name("d").build(|| Err::<(), _>("broken"))?)?;
    group.start()?;
    let clock = Stopwatch::start();
    let answers = group.wait_hits(2).timeout(ms(200)).await.into_vec();
    assert_eq!(clock.millis(), 200);
    assert_eq!(names(answers.iter().map(|(timer, _)| timer)), ["a", "b", "c", "d"]);
    assert!(answers[0].1.is_ok() && answers[1].1.is_ok());
    assert!(matches!(answers[2].1, Err(Error::Timeout { .. })));
    assert!(matches!(answers[3].1, Err(Error::Failed { .. })), "whoever comes before it has not answered");
    assert!(group.trigger().timeout(ms(10)).await.all().is_err());
    assert!(!group.is_running());
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn g2_a_failing_start_undoes_the_others() -> Result<(), Error> {
    let group = two()?;
    let used_up = every(10).stop_when(async {}).start(|| ())?;
    used_up.wait().await?;
    group.add(&used_up)?;
    assert!(matches!(group.start(), Err(Error::Restart { .. })));
    group.wait().await;
    assert!(group.members().iter().all(|member| !member.is_running()));
    assert!(group.remove(&used_up));
    group.start()?;
    assert!(group.is_running());
    assert!(matches!(group.add(&used_up), Err(Error::Restart { .. })));
    assert_eq!(group.len(), 2);
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn g2_adding_to_an_active_group_starts_the_member() -> Result<(), Error> {
    let group = two()?;
    group.start()?;
    let late = every(10).name("late").build(|| ())?;
    group.add(&late)?;
    assert!(late.is_running());
    group.add(&late)?;
    assert_eq!(group.len(), 3, "a member is not added twice");
    group.cancel().await;
    let idle = every(10).build(|| ())?;
    group.add(&idle)?;
    assert!(!idle.is_running());
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn g3_stops_run_concurrently() -> Result<(), Error> {
    let group = Group::new();
    for takes in [50, 500, 5_000] {
        group.add(every(10).build(move || sleep(ms(takes)))?)?;
    }
    group.start()?;
    sleep(ms(1)).await;
    let clock = Stopwatch::start();
    let report = group.shutdown(ms(1_000)).await.into_vec();
    assert_eq!(clock.millis(), 1_000);
    let how: Vec<_> = report.into_iter().map(|(_, how)| how).collect();
    assert_eq!(how, [Shutdown::Drained, Shutdown::Drained, Shutdown::Cancelled]);
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn g4_a_group_is_iterable_and_knows_its_members() -> Result<(), Error> {
    let group = two()?;
    let members: Vec<_> = (&group).into_iter().collect();
    assert_eq!((group.len(), group.is_empty(), group.name()), (2, false, Some("pair")));
    assert_eq!(names(&members), ["a", "b"]);
    assert!(group.contains(&members[1]));
    assert!(group.get("b").is_some_and(|timer| timer.same_timer(&members[1])) && group.get("z").is_none());
    assert!(!group.contains(every(10).build(|| ())?));
    assert!(format!("{group:?}").contains("pair"));
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn g2_a_refused_start_leaves_a_running_group_alone() -> Result<(), Error> {
    let group = two()?;
    group.start()?;
    assert!(matches!(group.start(), Err(Error::AlreadyRunning { .. })));
    assert!(group.is_running());
    let late = every(10).build(|| ())?;
    group.add(&late)?;
    assert!(late.is_running());
    Ok(())
}

/// An error that does something when it is dropped.
struct Trap(Mutex<Option<Box<dyn FnOnce() + Send>>>);

impl std::fmt::Debug for Trap {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Trap")
    }
}

impl std::fmt::Display for Trap {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("a trap")
    }
}

impl std::error::Error for Trap {}

impl Drop for Trap {
    fn drop(&mut self) {
        if let Some(act) = self.0.get_mut().unwrap().take() {
            act();
        }
    }
}

/// A group that was started once and has ended, and whose next start fails at the last member. Halfway
/// through that start `act` happens: the second member forgets the failure that ended it.
async fn doomed(act: impl FnOnce(Group) + Send + 'static) -> Result<Group, Error> {
    let group = Group::new();
    let inside = group.clone();
    let trap = Mutex::new(Some(Trap(Mutex::new(Some(Box::new(move || act(inside)))))));
    group.add(every(10).name("first").build(|| ())?)?;
    group.add(every(10).name("trapped").build(move || trap.lock().unwrap().take().map_or(Ok(()), Err))?)?;
    group.add(every(10).stop_when(async {}).build(|| ())?)?;
    group.start()?;
    sleep(ms(100)).await;
    drop(group.members()[0].cancel());
    drop(group.wait().await);
    Ok(group)
}

fn running(group: &Group) -> Vec<bool> {
    group.members().iter().map(AnyTimer::is_running).collect()
}

#[tokio::test(start_paused = true)]
async fn g2_l4_a_stop_during_a_start_that_fails_leaves_nobody_running() -> Result<(), Error> {
    let group = doomed(|group| drop(group.cancel())).await?;
    assert!(matches!(group.start(), Err(Error::Restart { .. })));
    group.wait().await;
    assert_eq!(running(&group), [false; 3]);
    let late = every(10).build(|| ())?;
    group.add(&late)?;
    assert!(!late.is_running(), "the group was stopped");
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn g2_a_start_that_fails_stops_whom_it_has_brought_in() -> Result<(), Error> {
    let late: Timer<()> = every(10).build(|| ())?;
    let busy: Timer<()> = every(10).start(|| ())?;
    let joining = [late.clone(), busy.clone()];
    let group = doomed(move |group| joining.iter().for_each(|timer| group.add(timer).unwrap())).await?;
    group.cancel().await;
    assert!(matches!(group.start(), Err(Error::Restart { .. })));
    group.get("first").unwrap().wait().await?;
    assert!(!late.is_running(), "it was started for the sake of the group");
    assert!(busy.is_running(), "it was not");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn l4_a_member_added_during_a_stop_does_not_run_on() -> Result<(), Error> {
    for _ in 0..much(500) {
        let group = two()?;
        group.start()?;
        let (adder, late) = (group.clone(), every(10).build(|| ())?);
        let handle = late.clone();
        let runtime = tokio::runtime::Handle::current();
        let adding = std::thread::spawn(move || {
            let _context = runtime.enter();
            adder.add(&handle)
        });
        group.cancel().await;
        tokio::task::spawn_blocking(|| adding.join()).await.unwrap().unwrap()?;
        let started = late.wait().timeout(ms(60_000)).await;
        assert!(matches!(started, Ok(StopReason::Cancelled) | Err(Error::NotRunning { .. })), "{started:?}");
    }
    Ok(())
}

#[test]
fn l9_a_group_can_be_waited_for_on_a_thread() {
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_time().build().unwrap();
    let group = two().unwrap();
    runtime.block_on(async { group.start() }).unwrap();
    let limit = ms(30_000);
    assert_eq!(group.trigger().block(limit).all().unwrap().len(), 2);
    assert!(group.wait().block(ms(1)).into_iter().all(|(_, end)| matches!(end, Err(Error::Timeout { .. }))));
    assert!(group.cancel().block(limit).all().is_ok());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn l4_a_start_that_fails_beside_a_stop_from_another_thread_leaves_nobody_running() -> Result<(), Error>
{
    let used_up = every(10).stop_when(async {}).start(|| ())?;
    used_up.wait().await?;
    for _ in 0..much(300) {
        let group = two()?;
        group.add(&used_up)?;
        let runtime = tokio::runtime::Handle::current();
        let act = |act: fn(&Group)| {
            let (group, runtime) = (group.clone(), runtime.clone());
            std::thread::spawn(move || {
                let _context = runtime.enter();
                act(&group);
            })
        };
        let threads = [
            act(|group| assert!(matches!(group.start(), Err(Error::Restart { .. })))),
            act(|group| group.add(every(10).build(|| ()).unwrap()).unwrap()),
            act(|group| drop(group.cancel())),
        ];
        let joined = tokio::task::spawn_blocking(|| threads.map(std::thread::JoinHandle::join));
        assert!(joined.await.unwrap().iter().all(Result::is_ok));
        drop(group.wait().timeout(ms(60_000)).await);
        assert_eq!(running(&group), [false; 4]);
    }
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn g1_a_group_runs_if_it_was_started_and_all_its_members_run() -> Result<(), Error> {
    let (group, empty) = (two()?, Group::new());
    assert!(!group.is_empty() && empty.is_empty());
    group.members().iter().try_for_each(AnyTimer::start)?;
    assert!(!group.is_running(), "nobody has started the group");
    assert!(!empty.is_running());
    empty.start()?;
    assert!(empty.is_running(), "all of none do");
    empty.cancel().await;
    assert!(!empty.is_running());
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn g2_a_group_does_not_hold_what_was_taken_out_of_it() -> Result<(), Error> {
    let group = two()?;
    group.start()?;
    let timer = every(10).build(|| ())?;
    group.add(&timer)?;
    assert!(timer.is_running() && group.remove(&timer));
    let weak = timer.downgrade();
    drop(timer);
    sleep(ms(20)).await;
    assert!(weak.upgrade().is_none(), "its last handle was dropped");
    Ok(())
}

#[tokio::test]
async fn l9_blocking_for_a_group_on_the_thread_that_it_needs_is_refused() -> Result<(), Error> {
    let group = two()?;
    group.start()?;
    let answers = group.wait_hits(1_000_000).block(ms(1));
    assert_eq!(answers.len(), 2);
    assert!(answers.iter().all(|(_, answer)| matches!(answer, Err(Error::ThreadsafeDispatch { .. }))));
    let here = group.wait_hits(0).block(ms(1));
    assert!(here.all().is_ok(), "what is there already needs no waiting");
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn g1_answers_are_a_collection() -> Result<(), Error> {
    let group = two()?;
    group.start()?;
    let answers = group.wait_hits(1).await;
    assert_eq!((answers.len(), answers.is_empty()), (2, false));
    let latest: Vec<_> = answers.into_iter().map(|(timer, _)| timer.latest()).collect();
    assert_eq!(latest[0].as_ref().unwrap().downcast_ref(), Some(&1_u64));
    assert_eq!(latest[1].as_ref().unwrap().downcast_ref(), Some(&"run 1".to_owned()));
    let nobody = Group::new().wait_hits(1).await;
    assert!(nobody.is_empty() && nobody.into_iter().next().is_none());
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn g3_a_member_whose_end_fails_stops_no_other_and_is_logged() -> Result<(), Error> {
    let (log, _guard) = Log::capture();
    for gently in [false, true] {
        let (group, ended) = (Group::new(), Journal::new());
        for name in ["first", "broken", "last"] {
            let ended = ended.clone();
            let builder = every(10).name(name).on_end(move |_| {
                ended.add(name);
                assert!(name != "broken", "no end");
            });
            group.add(builder.build(|| ())?)?;
        }
        group.start()?;
        group.wait_hits(1).await.all()?;
        if gently {
            let answers = group.shutdown(SECOND).await.into_vec();
            assert!(answers.iter().all(|(_, how)| *how == Shutdown::Drained), "{answers:?}");
        } else {
            let answers = group.cancel().await.into_vec();
            assert!(answers.iter().all(|(_, reason)| *reason == StopReason::Cancelled), "{answers:?}");
        }
        let mut told = ended.entries();
        told.sort_unstable();
        assert_eq!(told, ["broken", "first", "last"]);
        assert!(group.members().iter().all(|member| !member.is_running()));
        let lines = log.lines("ERROR");
        assert_eq!(lines.len(), 1 + usize::from(gently), "{lines:?}");
        assert!(lines.iter().all(|line| line.contains("broken") && line.contains("on_end")), "{lines:?}");
    }
    Ok(())
}

#[test]
fn d11_a_timer_that_a_group_is_asked_about_is_dropped_without_its_lock() -> Result<(), Error> {
    struct Counts(Group);
    impl Drop for Counts {
        fn drop(&mut self) {
            assert!(self.0.is_empty());
        }
    }
    let (group, (tell, told)) = (Group::new(), std::sync::mpsc::channel());
    let counts = Counts(group.clone());
    let stranger = every(10).build(move || counts.0.len())?;
    std::thread::spawn(move || tell.send(group.contains(stranger)));
    assert_eq!(told.recv_timeout(LIMIT), Ok(false));
    Ok(())
}
