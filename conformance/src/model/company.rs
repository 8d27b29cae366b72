//! What a company comes to: a model for each timer, and between them the plainest group, scope and engine there can be.

use std::collections::BTreeMap;

use super::{Model, Unpredictable};
use crate::check::json;
use crate::company::{Business, Company, Foreseen, Replies, Sight, key};
use crate::expect::{Cause, Expect, Got, Reason, TickSpec};
use crate::face_subject::{Form, Place};
use crate::scenario::{Command, Do, Scenario};
use crate::span::Span;

/// Works out what a company has to come to at this place.
///
/// # Errors
/// That cannot be said.
pub fn foresee(company: &Company, place: Place) -> Result<Foreseen, Unpredictable> {
    let mut house = House::new(company, place);
    for (number, order) in company.orders.iter().enumerate() {
        house.walk_to(order.at)?;
        house.look(number);
        house.follow(number, &order.what)?;
        let goes_on = company.orders.get(number + 1).is_some_and(|next| next.at == order.at);
        if !goes_on {
            house.turn()?;
        }
    }
    house.walk_to(company.watch)?;
    Ok(house.close_down())
}

struct House<'a> {
    company: &'a Company,
    place: Place,
    now: Span,
    /// When the last look at the whole was taken.
    looked: Option<Span>,
    members: Vec<Option<Hired<'a>>>,
    group: Vec<usize>,
    active: bool,
    scope: Vec<usize>,
    scope_closed: bool,
    engine_closed: bool,
    /// Requests to the group: who was asked, by their order.
    asked: BTreeMap<usize, Vec<usize>>,
    replies: Replies,
}

struct Hired<'a> {
    model: Model<'a>,
    /// Whether there is a handle of its own.
    owned: bool,
    /// What it was told by name.
    told: Vec<Command>,
}

impl<'a> House<'a> {
    fn new(company: &'a Company, place: Place) -> Self {
        Self {
            company,
            place,
            now: Span::ZERO,
            looked: None,
            members: company.members.iter().map(|_| None).collect(),
            group: Vec::new(),
            active: false,
            scope: Vec::new(),
            scope_closed: false,
            engine_closed: false,
            asked: BTreeMap::new(),
            replies: Replies::new(),
        }
    }

    fn hired(&mut self) -> impl Iterator<Item = &mut Hired<'a>> {
        self.members.iter_mut().flatten()
    }

    fn model(&mut self, who: usize) -> &mut Model<'a> {
        &mut self.members[who].as_mut().expect("only who was hired is asked for").model
    }

    /// Who has a handle of its own can be told something.
    fn owns(&self, who: usize) -> bool {
        self.members[who].as_ref().is_some_and(|hired| hired.owned)
    }

    fn runs(&self, who: usize) -> bool {
        self.members[who].as_ref().is_some_and(|hired| hired.model.life.is_some())
    }

    fn walk_to(&mut self, time: Span) -> Result<(), Unpredictable> {
        if time <= self.now {
            return Ok(()); // nobody has a turn between two orders of one time
        }
        for hired in self.hired() {
            hired.model.walk(time)?;
            hired.model.move_to(time);
        }
        self.now = time;
        Ok(())
    }

    fn turn(&mut self) -> Result<(), Unpredictable> {
        self.hired().try_for_each(|hired| hired.model.step())
    }

    fn say(&mut self, number: usize, what: &str, reply: &str) {
        self.replies.insert(key(number, what), reply.to_owned());
    }

    /// What is seen of the whole, once for each time at which something happens.
    fn look(&mut self, number: usize) {
        if self.looked.replace(self.now) == Some(self.now) {
            return;
        }
        let all = || 0..self.company.members.len();
        let names = |who: &[usize]| who.iter().map(usize::to_string).collect();
        let active: Vec<_> = self.scope.iter().copied().filter(|who| self.runs(*who)).collect();
        let is_pending = |who: &usize| {
            let hired = self.members[*who].as_ref().filter(|hired| hired.owned);
            let hired = hired.filter(|_| self.company.members[*who].once);
            hired.is_some_and(|hired| hired.model.is_to_come())
        };
        let sight = Sight {
            running: all().filter(|who| self.owns(*who) && self.runs(*who)).collect(),
            pending: all().filter(is_pending).collect(),
            group: names(&self.group),
            group_runs: self.active && self.group.iter().all(|member| self.runs(*member)),
            active: names(&active),
            scope_closed: self.scope_closed,
        };
        self.say(number, "before it", &json(&sight));
    }

    fn follow(&mut self, number: usize, what: &Business) -> Result<(), Unpredictable> {
        match what {
            Business::Hire(who) => self.hire(number, *who),
            Business::Tell(who, command) => return self.tell(*who, command),
            Business::CallOff(who) if self.owns(*who) => {
                let in_time = self.model(*who).is_to_come();
                self.model(*who).stop(Reason::Cancelled, Span::NEVER);
                self.say(number, "call off", &in_time.to_string());
            }
            Business::FireNow(who, name) if self.owns(*who) => return self.fire_now(*who, name),
            Business::AwaitCall(who, name) if self.owns(*who) => self.await_call(*who, name),
            Business::Add(who) if self.owns(*who) => {
                let got = self.add(*who);
                self.say(number, "add", &json(&got));
            }
            Business::Remove(who) => {
                let was = self.group.contains(who);
                self.group.retain(|member| member != who);
                self.say(number, "remove", &was.to_string());
                return self.release(*who);
            }
            Business::StartAll => {
                let got = self.start_all();
                self.say(number, "start", &json(&got));
            }
            Business::AskAll(action, timeout) => self.ask_all(number, action, *timeout),
            Business::Disband => {
                self.active = false;
                let members = std::mem::take(&mut self.group);
                return members.into_iter().try_for_each(|member| self.release(member));
            }
            Business::Stall(span) => {
                self.now = self.now.plus(*span);
                let now = self.now;
                self.hired().for_each(|hired| {
                    hired.model.stalled = true;
                    hired.model.move_to(now);
                });
            }
            _ => return self.follow_house(number, what),
        }
        Ok(())
    }

    /// What concerns the scope and the engine.
    fn follow_house(&mut self, number: usize, what: &Business) -> Result<(), Unpredictable> {
        match what {
            Business::Tie(who) if self.owns(*who) => {
                if self.scope_closed {
                    self.end_for_good(*who);
                } else if !self.scope.contains(who) {
                    self.scope.push(*who);
                }
            }
            Business::CloseScope(grace) => self.close_scope(number, *grace),
            Business::CancelScope => {
                self.scope_closed = true;
                self.scope.clone().into_iter().for_each(|who| self.end_for_good(who));
            }
            Business::DropScope => {
                self.scope_closed = false;
                let tied = std::mem::take(&mut self.scope);
                tied.iter().for_each(|who| self.end_for_good(*who));
                return tied.into_iter().try_for_each(|who| self.release(who));
            }
            Business::CloseEngine if self.place == Place::Engine => {
                self.engine_closed = true;
                self.hired().for_each(|hired| {
                    hired.model.closed = true;
                    hired.model.abandon();
                });
                self.say(number, "left", "0");
            }
            _ => {}
        }
        Ok(())
    }

    fn hire(&mut self, number: usize, who: usize) {
        let member = &self.company.members[who];
        let refused = member.tied && self.scope_closed;
        let mut model = Model::new(&member.scenario, Span::MILLISECOND);
        model.move_to(self.now);
        model.closed = refused || self.engine_closed;
        model.single_use = member.once;
        let got = if member.scenario.autostart { model.start() } else { Got::Ok };
        self.say(number, "hire", &json(&got));
        if got != Got::Ok {
            return;
        }
        if member.tied && !refused {
            self.scope.push(who);
        }
        self.members[who] = Some(Hired { model, owned: true, told: Vec::new() });
    }

    fn tell(&mut self, who: usize, command: &Command) -> Result<(), Unpredictable> {
        let Some(hired) = self.members[who].as_mut().filter(|hired| hired.owned) else { return Ok(()) };
        if command.action == Do::DropHandle {
            hired.owned = false;
            return self.release(who);
        }
        hired.model.give(command);
        hired.told.push(command.clone());
        Ok(())
    }

    /// A handle has gone. The last one asks the timer to stop.
    fn release(&mut self, who: usize) -> Result<(), Unpredictable> {
        let Some(hired) = &self.members[who] else { return Ok(()) };
        if hired.owned || self.group.contains(&who) || self.scope.contains(&who) || hired.model.detached {
            return Ok(());
        }
        let unanswered = |(number, members): (&usize, &Vec<usize>)| {
            members.contains(&who) && self.answers_of(*number, members).is_none()
        };
        if self.asked.iter().any(unanswered) {
            return Err(Unpredictable::Order("whoever asks the group has the last handle"));
        }
        self.model(who).stop(Reason::Dropped, Span::NEVER);
        Ok(())
    }

    /// The call is asked for, which is of no use if it was made.
    fn fire_now(&mut self, who: usize, name: &str) -> Result<(), Unpredictable> {
        let (at, model) = (self.now, self.model(who));
        if model.runs.is_empty() {
            let command = Command { at, action: Do::Trigger, name: Some(name.to_owned()), timeout: None };
            return self.tell(who, &command);
        }
        model.act(&Do::Trigger);
        self.await_call(who, name);
        Ok(())
    }

    /// The result of the only call, which may be in the past.
    fn await_call(&mut self, who: usize, name: &str) {
        let command = Command { at: self.now, action: Do::Join, name: Some(name.to_owned()), timeout: None };
        let Some(Hired { model, told, .. }) = &mut self.members[who] else { return };
        match (model.desk.latest, model.ended.filter(|_| model.life.is_none())) {
            (Some(value), _) => model.desk.answer(name, Got::Value(value)),
            (None, Some((reason, failure))) => {
                model.desk.answer(name, failure.map_or(Got::Stopped(reason), Got::Failed));
            }
            (None, None) => model.give(&command),
        }
        told.push(command);
    }

    fn add(&mut self, who: usize) -> Got {
        if self.group.contains(&who) {
            return Got::Ok;
        }
        if self.active && !self.runs(who) {
            let got = self.model(who).start();
            if got != Got::Ok {
                return got;
            }
        }
        self.group.push(who);
        Got::Ok
    }

    /// A start that fails undoes what it has done.
    fn start_all(&mut self) -> Got {
        let mut started = Vec::new();
        for member in self.group.clone() {
            let got = self.model(member).start();
            if got != Got::Ok {
                let now = self.now;
                started.into_iter().for_each(|member| self.model(member).stop(Reason::Cancelled, now));
                return got;
            }
            started.push(member);
        }
        self.active = true;
        Got::Ok
    }

    fn ask_all(&mut self, number: usize, action: &Do, timeout: Option<Span>) {
        if matches!(action, Do::Cancel | Do::Shutdown(_)) {
            self.active = false;
        }
        let name = Some(key(number, "answers"));
        let command = Command { at: self.now, action: action.clone(), name, timeout };
        for member in self.group.clone() {
            self.model(member).give(&command);
        }
        self.asked.insert(number, self.group.clone());
    }

    /// What a request to the group came to; `None` as long as somebody has not answered.
    fn answers_of(&self, number: usize, members: &[usize]) -> Option<(Span, Vec<(String, Got)>)> {
        let mut at = self.company.orders[number].at;
        let mut answers = Vec::new();
        for member in members {
            let given = self.members[*member].as_ref()?.model.desk.answers.get(&key(number, "answers"))?;
            at = at.max(given.at);
            let got = match &given.got {
                // For a group that is an error.
                Got::StillRunning => Got::Timeout,
                Got::Value(_) if self.company.members[*member].form == Form::LeanUnit => Got::Value(0),
                got => got.clone(),
            };
            answers.push((member.to_string(), got));
        }
        Some((at, answers))
    }

    fn end_for_good(&mut self, who: usize) {
        let now = self.now;
        self.model(who).closed = true;
        self.model(who).stop(Reason::Cancelled, now);
    }

    fn close_scope(&mut self, number: usize, grace: Span) {
        // Who has ended since is counted or not, by how quickly it did.
        let again = std::mem::replace(&mut self.scope_closed, true);
        let (mut drained, mut cancelled, mut left) = (0, 0, Vec::new());
        let end = self.now.plus(grace);
        for who in self.scope.clone() {
            let model = self.model(who);
            model.closed = true;
            match (&model.life, model.ended) {
                (Some(life), _) if life.flight.is_some() => left.push(who.to_string()),
                (None, Some((Reason::Cancelled | Reason::GraceExpired | Reason::Abandoned, _))) => {
                    cancelled += 1;
                }
                _ => drained += 1,
            }
            model.stop(Reason::Drained, end);
        }
        let counts = if again { String::new() } else { format!("{drained} {cancelled} ") };
        self.say(number, "closed", &format!("{counts}{left:?}"));
    }

    /// Nobody keeps the time any more: whoever still runs is abandoned.
    fn close_down(mut self) -> Foreseen {
        for (number, members) in std::mem::take(&mut self.asked) {
            if let Some((at, answers)) = self.answers_of(number, &members) {
                self.say(number, "answers", &format!("{at} {}", json(&answers)));
            }
        }
        let members = std::mem::take(&mut self.members);
        let mut scenarios = Vec::new();
        for (who, hired) in members.into_iter().enumerate() {
            let Some(Hired { mut model, owned, told }) = hired else {
                scenarios.push(None);
                continue;
            };
            let commands = told.into_iter().filter(|command| command.name.is_some()).collect();
            let scenario = Scenario { commands, ..self.company.members[who].scenario.clone() };
            let trace = model.trace();
            let mut expect = Expect { batches: None, ..trace.expectation(&scenario) };
            if self.company.members[who].once {
                // Whatever a group that is started again makes of it, the call is made once.
                expect.ticks.truncate(1);
                expect.ticks.iter_mut().for_each(tell_nothing);
            }
            model.abandon();
            let ends = model.ends.len();
            let last = model.ended.map(|(reason, _)| reason).filter(|_| owned);
            let form = self.company.members[who].form;
            let ends = (matches!(form, Form::Slow | Form::Sync)).then_some(ends);
            self.replies.insert(format!("member {who} in the end"), format!("{ends:?} {last:?}"));
            scenarios.push(Some(Scenario { expect, ..scenario }));
        }
        Foreseen { members: scenarios, replies: self.replies }
    }
}

/// A run that is told nothing can only tell when it was.
fn tell_nothing(spec: &mut TickSpec) {
    *spec = TickSpec { slot: 0, scheduled: None, missed: 0, cause: Cause::Schedule, ..spec.clone() };
}
