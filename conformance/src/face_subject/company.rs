//! Plays a company: the orders are followed in one go for each time, as the commands of a scenario are.

use std::future::Future;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Waker};
use std::time::Duration;

use everbeat::thread::{Engine, OneShot};
use everbeat::{Answer, AnyTimer, AnyValue, Builder, Error, Group, Scope, Timer, Together};
use tokio::time::{Instant, advance, sleep_until};

use super::log::Log;
use super::stage::{Stage, got, shutdown};
use super::target::{Made, Script};
use super::{Form, Place, build, build_sync, configure, hosted, lean, listen, paused_runtime};
use crate::check::json;
use crate::company::{Business, Company, Member, Replies, Sight, Witnessed, key};
use crate::expect::{Got, Reason};
use crate::scenario::{Command, Do};
use crate::span::Span;
use crate::trace::Trace;

/// Plays a company at this place.
#[must_use]
pub fn play_company(company: &Company, place: Place) -> Witnessed<Trace> {
    let runtime = paused_runtime();
    let (members, posts, crew) = runtime.block_on(async {
        let mut crew = Crew::new(place);
        crew.play(company).await;
        let members = crew.posts.iter().map(|post| post.as_ref().map(|post| post.leave())).collect();
        (members, std::mem::take(&mut crew.posts), crew)
    });
    drop(runtime);
    let Crew { replies, engine, .. } = crew;
    drop(engine);
    let mut replies = std::mem::take(&mut *replies.lock().unwrap_or_else(PoisonError::into_inner));
    for (who, post) in posts.iter().enumerate() {
        if let Some(post) = post {
            replies.insert(format!("member {who} in the end"), post.in_the_end());
        }
    }
    Witnessed { members, replies }
}

struct Crew {
    origin: Instant,
    place: Place,
    engine: Option<Engine>,
    /// Makes the timers that share a task.
    home: Group,
    group: Group,
    scope: Scope,
    /// When the last look at the whole was taken.
    looked: Option<Span>,
    posts: Vec<Option<Box<dyn Post>>>,
    replies: Arc<Mutex<Replies>>,
    /// Timers of one runtime share the clock of the first one as long as somebody has it.
    _first: Timer<()>,
}

impl Crew {
    fn new(place: Place) -> Self {
        let day = Duration::from_secs(24 * 3600);
        let first = Timer::every(day).initial_delay(day).start(|| ()).expect("there is a runtime");
        Self {
            origin: Instant::now(),
            place,
            engine: (place == Place::Engine).then(hosted::spawn),
            home: Group::new(),
            group: Group::new(),
            scope: Scope::new(),
            looked: None,
            posts: Vec::new(),
            replies: Arc::default(),
            _first: first,
        }
    }

    async fn play(&mut self, company: &Company) {
        self.posts = company.members.iter().map(|_| None).collect();
        for (number, order) in company.orders.iter().enumerate() {
            self.sleep_until(order.at).await;
            self.look(number);
            if let Business::Stall(span) = order.what {
                advance(span.to_duration()).await;
            } else {
                self.follow(number, &order.what, company);
            }
        }
        self.sleep_until(company.watch).await;
    }

    async fn sleep_until(&self, time: Span) {
        if time.to_duration() > self.origin.elapsed() {
            sleep_until(self.origin + time.to_duration()).await;
        }
    }

    fn say(&self, number: usize, what: &str, reply: &str) {
        let mut replies = self.replies.lock().unwrap_or_else(PoisonError::into_inner);
        replies.insert(key(number, what), reply.to_owned());
    }

    fn look(&mut self, number: usize) {
        let now = self.origin.elapsed().into();
        if self.looked.replace(now) == Some(now) {
            return;
        }
        let own = |who: &usize| self.posts[*who].as_ref().and_then(|post| post.timer());
        let all = || 0..self.posts.len();
        let is_pending = |who: &usize| self.posts[*who].as_ref().is_some_and(|post| post.is_pending());
        let group: Vec<_> = (&self.group).into_iter().collect();
        let knows_all = group.iter().all(|member| self.group.contains(member));
        let sight = Sight {
            running: all().filter(|who| own(who).is_some_and(|timer| timer.is_running())).collect(),
            pending: all().filter(is_pending).collect(),
            group: names(&group),
            group_runs: self.group.is_running(),
            active: names(&self.scope.active()),
            scope_closed: self.scope.is_closed(),
        };
        self.say(number, "before it", &json(&sight));
        if !knows_all || group.len() != self.group.len() || group.is_empty() != self.group.is_empty() {
            self.say(number, "the group", "does not know its members");
        }
    }

    fn post(&mut self, who: usize) -> Option<&mut Box<dyn Post>> {
        self.posts[who].as_mut().filter(|post| post.timer().is_some())
    }

    fn timer(&self, who: usize) -> Option<AnyTimer> {
        self.posts[who].as_ref()?.timer()
    }

    fn follow(&mut self, number: usize, what: &Business, company: &Company) {
        match what {
            Business::Hire(who) => {
                let got = self.hire(*who, &company.members[*who]);
                self.say(number, "hire", &json(&got));
            }
            Business::Tell(who, command) => {
                if let Some(post) = self.post(*who) {
                    post.give(command);
                }
            }
            Business::CallOff(who) => {
                if let Some(in_time) = self.post(*who).and_then(|post| post.call_off()) {
                    self.say(number, "call off", &in_time.to_string());
                }
            }
            Business::FireNow(who, name) => {
                if let Some(post) = self.post(*who) {
                    post.await_call(name, true);
                }
            }
            Business::AwaitCall(who, name) => {
                if let Some(post) = self.post(*who) {
                    post.await_call(name, false);
                }
            }
            Business::Add(who) => {
                if let Some(timer) = self.timer(*who) {
                    let got = got(self.group.add(timer), |()| Got::Ok);
                    self.say(number, "add", &json(&got));
                }
            }
            Business::Remove(who) => {
                let member = self.timer(*who).or_else(|| self.group.get(&who.to_string()));
                let was = member.is_some_and(|member| self.group.remove(member));
                self.say(number, "remove", &was.to_string());
            }
            Business::StartAll => {
                let got = got(self.group.start(), |()| Got::Ok);
                self.say(number, "start", &json(&got));
            }
            Business::AskAll(action, timeout) => self.ask_all(number, action, *timeout),
            Business::Disband => self.group = Group::new(),
            Business::Tie(who) => {
                if let Some(timer) = self.timer(*who) {
                    self.scope.tie(timer);
                }
            }
            Business::CloseScope(grace) => {
                let again = self.scope.is_closed();
                let closed = self.scope.close(grace.to_duration());
                let left: Vec<_> = closed.left.iter().map(ToString::to_string).collect();
                let (drained, cancelled) = (closed.drained, closed.cancelled);
                let counts = if again { String::new() } else { format!("{drained} {cancelled} ") };
                self.say(number, "closed", &format!("{counts}{left:?}"));
            }
            Business::CancelScope => self.scope.cancel(),
            Business::DropScope => self.scope = Scope::new(),
            Business::CloseEngine => {
                if let Some(engine) = &self.engine {
                    let left = engine.close(Duration::ZERO);
                    self.say(number, "left", &left.to_string());
                }
            }
            Business::Stall(_) => {}
        }
    }

    fn hire(&mut self, who: usize, member: &Member) -> Got {
        let period = member.scenario.timer.period.to_duration();
        let builder = match (self.place, &self.engine) {
            (Place::SharedTask, _) => self.home.every(period),
            (Place::Engine, Some(engine)) => engine.every(period),
            _ => Timer::every(period),
        };
        let is_lean = member.form.is_lean();
        let trace = if is_lean {
            Trace { valueless: member.form == Form::LeanUnit, ..Trace::default() }
        } else {
            Trace { ended: Some(Vec::new()), failures_told: Some(0), ..Trace::default() }
        };
        let log = Arc::new(Log::new(self.origin, true, trace));
        let script = Script { scenario: Arc::new(member.scenario.clone()), log: log.clone() };
        let mut builder = configure(builder.name(&who.to_string()), &member.scenario.timer, &log);
        builder = if is_lean {
            builder.histograms(member.form == Form::LeanMeasured)
        } else {
            listen(builder, &log)
        };
        if member.tied {
            builder = builder.tied_to(&self.scope);
        }
        let at_once = member.scenario.autostart;
        let post = match member.form {
            Form::LeanUnit if member.once => call_once::<()>(member, builder, &script),
            _ if member.once => call_once::<u64>(member, builder, &script),
            Form::LeanUnit => lean::<()>(&script, builder, at_once).map(|timer| posted(timer, None, &script)),
            Form::Lean | Form::LeanMeasured => {
                lean::<u64>(&script, builder, at_once).map(|timer| posted(timer, None, &script))
            }
            Form::Sync => build_sync(&script, builder, at_once).map(|timer| posted(timer, None, &script)),
            Form::Slow | Form::Ticks => {
                build(&script, builder, at_once).map(|timer| posted(timer, None, &script))
            }
        };
        got(post, |post| {
            post.timer().map(|timer| self.home.remove(timer));
            self.posts[who] = Some(post);
            Got::Ok
        })
    }

    fn ask_all(&self, number: usize, action: &Do, timeout: Option<Span>) {
        let of_value = |value: AnyValue| Got::Value(value.downcast_ref().copied().unwrap_or(0));
        match action {
            Do::Trigger => self.hear(number, self.group.trigger(), timeout, of_value),
            Do::WaitHits(count) => self.hear(number, self.group.wait_hits(*count), timeout, |()| Got::Ok),
            Do::WaitMore(count) => self.hear(number, self.group.wait_more(*count), timeout, |()| Got::Ok),
            Do::Wait => self.hear(number, self.group.wait(), timeout, |end| Got::Ended(end.into())),
            Do::Cancel => self.hear(number, self.group.cancel(), timeout, |end| Got::Ended(end.into())),
            Do::Shutdown(grace) => {
                self.hear(number, self.group.shutdown(grace.to_duration()), timeout, shutdown);
            }
            _ => {}
        }
    }

    /// Writes down what the members of the group answer, when all of them have.
    fn hear<O>(&self, number: usize, together: Together<O>, timeout: Option<Span>, mean: fn(O::Value) -> Got)
    where
        O: Answer + Send + Unpin + 'static,
        O::Value: Send,
    {
        let (origin, replies) = (self.origin, self.replies.clone());
        let mut heard = Box::pin(async move {
            let answers: Vec<_> = match timeout {
                Some(limit) => together.timeout(limit.to_duration()).await.into_vec(),
                None => {
                    let answers = together.await.into_iter();
                    answers.map(|(timer, answer)| (timer, answer.into_result())).collect()
                }
            };
            let answers =
                answers.into_iter().map(|(timer, answer)| (timer.name().to_string(), got(answer, mean)));
            let answers: Vec<_> = answers.collect();
            let at = Span::from(origin.elapsed());
            let mut replies = replies.lock().unwrap_or_else(PoisonError::into_inner);
            replies.insert(key(number, "answers"), format!("{at} {}", json(&answers)));
        });
        // Whoever is answered at once has no handles after that.
        if heard.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending() {
            tokio::spawn(heard);
        }
    }
}

fn names(timers: &[AnyTimer]) -> Vec<String> {
    timers.iter().map(|timer| timer.name().to_string()).collect()
}

/// The place of a member, whatever it delivers.
trait Post {
    fn give(&mut self, command: &Command);
    fn timer(&self) -> Option<AnyTimer>;
    fn is_pending(&self) -> bool;
    fn call_off(&self) -> Option<bool>;
    fn await_call(&mut self, name: &str, now: bool);
    fn leave(&self) -> Trace;
    fn in_the_end(&self) -> String;
}

struct Posted<V: Made> {
    log: Arc<Log>,
    stage: Stage<V>,
    call: Option<OneShot<V>>,
}

impl<V: Made> Post for Posted<V> {
    fn give(&mut self, command: &Command) {
        if command.action == Do::DropHandle {
            self.call = None;
        }
        self.stage.give_now(command);
    }

    fn timer(&self) -> Option<AnyTimer> {
        self.stage.timer.as_ref().map(AnyTimer::from)
    }

    fn is_pending(&self) -> bool {
        self.call.as_ref().is_some_and(OneShot::is_pending)
    }

    fn call_off(&self) -> Option<bool> {
        self.call.as_ref().map(OneShot::cancel)
    }

    fn await_call(&mut self, name: &str, now: bool) {
        let Some(call) = &self.call else { return };
        let answer = if now { call.fire_now() } else { call.wait() };
        let command =
            Command { at: Span::ZERO, action: Do::Join, name: Some(name.to_owned()), timeout: None };
        self.stage.listen(&command, async move { got(answer.await, |value| Got::Value(value.seen())) });
    }

    fn leave(&self) -> Trace {
        self.stage.leave()
    }

    /// When nobody keeps the time any more: how often it has ended, and why.
    fn in_the_end(&self) -> String {
        let ends = self.log.seen().ended.map(|ends| ends.len());
        let last = self.stage.timer.as_ref().map(|timer| match timer.wait().into_answer() {
            Ok(Ok(reason)) => Some(Reason::from(reason)),
            Ok(Err(Error::Failed { .. })) => Some(Reason::Failed),
            Ok(Err(Error::NotRunning { .. })) => None,
            other => panic!("timer `{}` in the end: {other:?}", timer.name()),
        });
        format!("{ends:?} {:?}", last.flatten())
    }
}

fn posted<V: Made>(timer: Timer<V>, call: Option<OneShot<V>>, script: &Script) -> Box<dyn Post> {
    let log = script.log.clone();
    Box::new(Posted { stage: Stage::new(&log, timer), log, call })
}

fn call_once<V: Made>(member: &Member, builder: Builder, script: &Script) -> Result<Box<dyn Post>, Error> {
    let own = script.clone();
    let delay = member.scenario.timer.initial_delay.to_duration();
    let call = OneShot::start(builder, delay, move || own.call_once().map(V::of))?;
    Ok(posted(call.as_timer().clone(), Some(call), script))
}
