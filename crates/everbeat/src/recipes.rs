//! Recipes: the usual jobs of a recurring timer, each as a program that runs.
//!
//! There is no code here, only documentation. Periods are in seconds as a service would have them; the
//! examples run in paused time, so they take none.
//!
//! # Warm a cache before serving from it
//!
//! ```
//! use everbeat::{Timer, Value};
//! use std::time::{Duration, Instant};
//!
//! struct Rates {
//!     taken_at: Instant,
//! }
//! impl Value for Rates {}
//!
//! # #[tokio::main(flavor = "current_thread", start_paused = true)]
//! # async fn main() -> Result<(), everbeat::Error> {
//! let cache = Timer::every(Duration::from_secs(5))
//!     .name("rates")
//!     .start(|| async { Rates { taken_at: Instant::now() } })?;
//! cache.wait_hits(1).timeout(Duration::from_secs(30)).await?; // start-up fails if this does
//!
//! // In a request handler: never waits, never `None` from here on.
//! let rates = cache.latest().expect("warmed above");
//! assert!(rates.taken_at.elapsed() < Duration::from_secs(60));
//!
//! cache.shutdown(Duration::from_secs(5)).await; // at the end of `main`
//! # Ok(())
//! # }
//! ```
//!
//! # Take the next value
//!
//! ```
//! # use everbeat::Timer;
//! # use std::time::Duration;
//! # #[tokio::main(flavor = "current_thread", start_paused = true)]
//! # async fn main() -> Result<(), everbeat::Error> {
//! let timer = Timer::every(Duration::from_secs(12)).start(|| 42)?;
//! assert_eq!(*timer.join().await?, 42);
//! timer.cancel().await;
//! # Ok(())
//! # }
//! ```
//!
//! # Loop over the ticks
//!
//! With a target, a feed; its bound of one keeps the newest value for a slow loop:
//!
//! ```
//! # use everbeat::{Tick, Timer};
//! # use std::time::Duration;
//! # #[tokio::main(flavor = "current_thread", start_paused = true)]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let timer = Timer::every(Duration::from_secs(14)).max_runs(3).start(|tick: Tick| tick.scheduled)?;
//! let mut feed = timer.subscribe().bounded(1).open()?;
//! while let Some(time) = feed.next().await {
//!     println!("{:?}", time?);
//! }
//! # Ok(())
//! # }
//! ```
//!
//! Without one, a schedule as a stream, in a `select!` of your own:
//!
//! ```
//! # use everbeat::Timer;
//! # use std::time::Duration;
//! # #[tokio::main(flavor = "current_thread", start_paused = true)]
//! # async fn main() -> Result<(), everbeat::Error> {
//! # let (sender, mut jobs) = tokio::sync::mpsc::channel::<u32>(1);
//! let mut flush = Timer::every(Duration::from_secs(1)).fixed_rate().max_runs(4).ticks()?;
//! loop {
//!     tokio::select! {
//!         Some(job) = jobs.recv() => println!("job {job}"),
//!         tick = flush.next() => match tick {
//!             Some(tick) => println!("flush {} after {} missed", tick.run, tick.missed),
//!             None => break,
//!         },
//!     }
//! }
//! # drop(sender);
//! # Ok(())
//! # }
//! ```
//!
//! # Run it now
//!
//! ```
//! # use everbeat::{Error, Timer};
//! # use std::{sync::Arc, time::Duration};
//! async fn force_refresh(timer: &Timer<u64>) -> Result<Arc<u64>, Error> {
//!     timer.trigger().timeout(Duration::from_secs(3)).await // started after this call, or an error
//! }
//! # #[tokio::main(flavor = "current_thread", start_paused = true)]
//! # async fn main() -> Result<(), Error> {
//! # let timer = Timer::every(Duration::from_secs(60)).start(|tick: everbeat::Tick| tick.run)?;
//! # timer.wait_hits(1).await?;
//! # assert_eq!(*force_refresh(&timer).await?, 2);
//! # Ok(())
//! # }
//! ```
//!
//! # Give every value to several consumers, and shed load where one is slow
//!
//! ```
//! # use everbeat::{Tick, Timer};
//! # use std::time::Duration;
//! # #[tokio::main(flavor = "current_thread", start_paused = true)]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let metrics = Timer::every(Duration::from_secs(1)).max_runs(300).build(|tick: Tick| tick.run)?;
//! let mut archive = metrics.subscribe().open()?; // everything, however slow its reader is
//! let mut sink = metrics.subscribe().bounded(10).name("metrics-sink").open()?; // the newest ten
//! let mut shedder = metrics.subscribe().open()?;
//! metrics.start()?;
//!
//! let shedding = tokio::spawn(async move {
//!     while let Some(Ok(_value)) = shedder.next().await {
//!         if shedder.len() > 100 {
//!             shedder.drop_oldest(shedder.len() - 1); // keep only the newest
//!         }
//!         tokio::time::sleep(Duration::from_secs(3)).await; // a slow export
//!     }
//!     shedder.dropped_count()
//! });
//! metrics.wait().await?;
//! assert!(shedding.await? > 0);
//! assert_eq!((archive.len(), sink.len(), sink.dropped_count()), (300, 10, 290));
//! assert_eq!(archive.next().await.transpose()?.as_deref(), Some(&1));
//! assert_eq!(sink.next().await.transpose()?.as_deref(), Some(&291));
//! # Ok(())
//! # }
//! ```
//!
//! # Keep to the schedule, or keep a distance
//!
//! A heartbeat or a simulation wants `start + n × period`; a poll or a retry wants a pause after each run.
//!
//! ```
//! # use everbeat::Timer;
//! # use std::time::Duration;
//! # #[tokio::main(flavor = "current_thread", start_paused = true)]
//! # async fn main() -> Result<(), everbeat::Error> {
//! let period = Duration::from_secs(2);
//! let work = || tokio::time::sleep(Duration::from_secs(1));
//! let heartbeat = Timer::every(period).fixed_rate().start(work)?;
//! let poll = Timer::every(period).start(work)?; // fixed delay is the default
//! tokio::time::sleep(Duration::from_millis(12_500)).await;
//! assert_eq!((heartbeat.hits(), poll.hits()), (6, 4));
//! # Ok(())
//! # }
//! ```
//!
//! # Go on after failures, and back off
//!
//! ```
//! # use everbeat::{OnError, Tick, Timer};
//! # use std::time::Duration;
//! # #[tokio::main(flavor = "current_thread", start_paused = true)]
//! # async fn main() -> Result<(), everbeat::Error> {
//! let probe = Timer::every(Duration::from_secs(10))
//!     .on_error(OnError::backoff(Duration::from_secs(1), Duration::from_secs(60)))
//!     .on_failure(|failure| eprintln!("{failure}"))
//!     .start(|tick: Tick| async move {
//!         if tick.run < 4 { Err("connection refused") } else { Ok(tick.run) }
//!     })?;
//! probe.wait_hits(1).await?; // after waits of 1, 2 and 4 seconds
//! assert_eq!(probe.stats().failures, 3);
//! # Ok(())
//! # }
//! ```
//!
//! # Stop with the rest of the service
//!
//! Anything that can be awaited stops a timer after its current run: a signal, a channel, a
//! `CancellationToken` (`token.cancelled_owned()`).
//!
//! ```
//! # use everbeat::{StopReason, Timer};
//! # use std::time::Duration;
//! # #[tokio::main(flavor = "current_thread", start_paused = true)]
//! # async fn main() -> Result<(), everbeat::Error> {
//! let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
//! let timer = Timer::every(Duration::from_secs(1)).stop_when(stopped).start(|| ())?;
//! drop(stop);
//! assert_eq!(timer.wait().await?, StopReason::Condition);
//! # Ok(())
//! # }
//! ```
//!
//! # Control it from a thread without a runtime
//!
//! ```
//! # use everbeat::{Error, Timer};
//! # use std::time::Duration;
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Error> {
//! let timer = Timer::every(Duration::from_secs(1)).start(|| 7)?;
//! let handle = timer.clone();
//! let thread = std::thread::spawn(move || {
//!     let limit = Duration::from_secs(5);
//!     let value = handle.trigger().block(limit)?;
//!     handle.cancel().block(limit)?;
//!     Ok::<_, Error>(*value)
//! });
//! let value = tokio::task::spawn_blocking(|| thread.join()).await;
//! assert_eq!(value.unwrap().unwrap()?, 7);
//! # Ok(())
//! # }
//! ```
//!
//! # Restart
//!
//! ```
//! # use everbeat::{Timer, StopReason};
//! # use std::time::Duration;
//! # #[tokio::main(flavor = "current_thread", start_paused = true)]
//! # async fn main() -> Result<(), everbeat::Error> {
//! let steps = Timer::every(Duration::from_secs(1)).build(|| 1..=3)?; // a closure that makes an iterator
//! for round in 1..=2 {
//!     steps.start()?; // each start has a fresh one
//!     assert_eq!(steps.wait().await?, StopReason::Exhausted);
//!     assert_eq!(steps.hits(), round * 3);
//! }
//! # Ok(())
//! # }
//! ```
//!
//! # Do something once, later
//!
//! Called off as long as it has not begun; the answer tells who was first.
//!
//! ```
//! # use std::time::Duration;
//! # async fn close_connection() {}
//! # #[tokio::main(flavor = "current_thread", start_paused = true)]
//! # async fn main() -> Result<(), everbeat::Error> {
//! let idle = everbeat::after(Duration::from_secs(60), || close_connection())?;
//! // A request comes in before that:
//! if !idle.cancel() {
//!     println!("too late, the connection is being closed");
//! }
//! # assert!(!idle.is_pending());
//! # Ok(())
//! # }
//! ```
//!
//! Without a runtime:
//!
//! ```
//! # use everbeat::thread;
//! # use std::time::Duration;
//! # fn main() -> Result<(), everbeat::Error> {
//! let reminder = thread::after(Duration::from_secs(5), || println!("five seconds have passed"))?;
//! // The answer came before the reminder was needed:
//! if !reminder.cancel() {
//!     println!("too late, it was printed");
//! }
//! # assert!(!reminder.is_pending());
//! # Ok(())
//! # }
//! ```
//!
//! # Repeat something on a thread
//!
//! One timer, not a chain of one-shots: there is one thing to cancel, and no moment in which the next link
//! is not there yet.
//!
//! ```
//! # use everbeat::thread;
//! # use std::time::Duration;
//! # fn main() -> Result<(), everbeat::Error> {
//! # let second = Duration::from_millis(1);
//! # /*
//! let second = Duration::from_secs(1);
//! # */
//! let heartbeat = thread::every(5 * second).name("heartbeat").start(|| println!("alive"))?;
//! heartbeat.wait_hits(3).block(Duration::from_secs(60))?;
//! heartbeat.cancel().block(Duration::from_secs(10))?; // once this has returned nothing is printed
//! # Ok(())
//! # }
//! ```
//!
//! # Run a task that outlives its failures
//!
//! ```
//! # use everbeat::thread::PeriodicTask;
//! # use std::time::Duration;
//! # fn main() -> Result<(), everbeat::Error> {
//! # let minute = Duration::from_millis(1);
//! # /*
//! let minute = Duration::from_secs(60);
//! # */
//! let sweep = PeriodicTask::new(minute, || std::fs::remove_file("/no/such/file"))?; // fails, is logged
//! sweep.start()?; // the first call comes after a minute, each further one a minute after the last
//! # while sweep.timer().stats().failures < 3 { std::thread::yield_now() }
//! sweep.stop(); // waits for a call in flight
//! sweep.start()?; // and on it goes
//! # Ok(())
//! # } // dropping it stops it for good
//! ```
//!
//! # Tie timers to a session
//!
//! Whatever is tied to a scope is over when the scope is: closed, or dropped on some early return.
//!
//! ```
//! # use everbeat::{Error, Scope, thread};
//! # use std::time::Duration;
//! struct Session {
//!     timers: Scope,
//! }
//!
//! impl Session {
//!     fn open() -> Result<Self, Error> {
//!         let timers = Scope::new();
//!         let pings = thread::every(Duration::from_secs(20)).tied_to(&timers).name("ping");
//!         pings.start(|| println!("ping"))?.detach(); // the scope holds it
//!         timers.tie(thread::after(Duration::from_secs(3600), || println!("log in again"))?.as_timer());
//!         Ok(Self { timers })
//!     }
//!
//!     fn close(self) {
//!         for name in self.timers.close(Duration::from_secs(1)).left {
//!             eprintln!("{name} is still busy");
//!         }
//!     }
//! }
//! # fn main() -> Result<(), Error> {
//! let session = Session::open()?;
//! assert_eq!(session.timers.active().len(), 2);
//! session.close();
//! # Ok(())
//! # }
//! ```
//!
//! # Test without sleeping
//!
//! See [`testing`](crate::testing), or pause tokio's time as above:
//!
//! ```
//! # use everbeat::Timer;
//! # use std::{sync::{Arc, atomic::{AtomicU32, Ordering}}, time::Duration};
//! #[tokio::main(flavor = "current_thread", start_paused = true)] // or #[tokio::test(start_paused = true)]
//! async fn main() -> Result<(), everbeat::Error> {
//!     let calls = Arc::new(AtomicU32::new(0));
//!     let counted = calls.clone();
//!     let timer = Timer::every(Duration::from_secs(3600)).start(move || counted.fetch_add(1, Ordering::Relaxed))?;
//!     timer.wait_more(3).await?;
//!     assert_eq!(calls.load(Ordering::Relaxed), 3);
//!     Ok(())
//! }
//! ```
