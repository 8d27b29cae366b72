//! Whoever starts, stops and asks timers at random.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use everbeat::thread::{Engine, PeriodicTask};
use everbeat::{Error, Group, Scope, thread};

use crate::plants::{Kind, Plant, Soil, period};
use crate::random::Random;
use crate::watch::{TALLY, Token, complain, count};

/// So long a wait for a tick may take.
const PATIENCE: Duration = Duration::from_millis(200);

/// What somebody does, and since when: for who looks whether anything hangs.
pub(crate) type Doing = Arc<Mutex<(&'static str, Instant)>>;

/// What the work itself runs on.
#[derive(Clone, Copy)]
pub(crate) enum Place {
    Task,
    Thread,
}

pub(crate) struct Gardener {
    place: Place,
    soil: Soil,
    random: Random,
    most: usize,
    plants: Vec<Plant>,
    doing: Doing,
}

impl Gardener {
    pub(crate) fn new(place: Place, soil: Soil, seed: u64, most: usize) -> (Self, Doing) {
        let doing = Arc::new(Mutex::new(("begins", Instant::now())));
        let random = Random::new(seed);
        (Self { place, soil, random, most, plants: Vec::new(), doing: doing.clone() }, doing)
    }

    /// Works until then, and ends all its timers.
    pub(crate) async fn work(mut self, until: Instant) {
        while Instant::now() < until {
            if let Err(error) = self.step().await {
                complain(format!("{error}"));
            }
            let pause = self.random.micros(3_000);
            self.rest(pause).await;
        }
        while let Some(plant) = self.plants.pop() {
            self.uproot(plant).await;
        }
        self.does("is done");
    }

    fn does(&self, what: &'static str) {
        *self.doing.lock().unwrap_or_else(PoisonError::into_inner) = (what, Instant::now());
    }

    async fn rest(&self, pause: Duration) {
        match self.place {
            Place::Task => tokio::time::sleep(pause).await,
            Place::Thread => std::thread::sleep(pause),
        }
    }

    /// Waits so long at most.
    async fn within<F: Future>(&self, limit: Duration, future: F) -> Option<F::Output> {
        match self.place {
            Place::Task => tokio::time::timeout(limit, future).await.ok(),
            Place::Thread => thread::wait_for(future, limit),
        }
    }

    async fn step(&mut self) -> Result<(), Error> {
        count(&TALLY.controls);
        if self.plants.len() < self.most {
            self.does("plants");
            for _ in 0..10.min(self.most - self.plants.len()) {
                let plant = Plant::sow(&self.soil, &mut self.random)?;
                self.start(&plant)?;
                self.plants.push(plant);
            }
        }
        match self.random.below(100) {
            0..=7 => self.stop_and_start().await,
            8..=12 => self.exchange().await,
            13..=24 => self.ask().await,
            25..=44 => self.command(),
            45..=69 => self.feed(),
            70..=74 => self.group().await,
            75..=79 => self.scope().await,
            80..=86 => self.one_shot().await,
            87..=90 => self.periodic_task(),
            91..=94 => self.ticks().await,
            95..=97 => self.own_engine(),
            _ => self.mend(),
        }
    }

    fn start(&self, plant: &Plant) -> Result<(), Error> {
        match plant.start() {
            Err(Error::Restart { .. }) => return Ok(()), // its stop condition has come true
            started => started?,
        }
        if matches!(plant.timer, Kind::Samples(_)) {
            count(&TALLY.starts);
        }
        Ok(())
    }

    /// Half of the time one of a few, so that much happens to them.
    fn any_plant(&mut self) -> usize {
        let (all, few) = (self.plants.len(), self.random.one_in(2));
        self.random.index(if few { all.min(20) } else { all })
    }

    /// Ends a timer and, when nothing of it runs, begins it anew.
    async fn stop_and_start(&mut self) -> Result<(), Error> {
        let number = self.any_plant();
        self.does("stops");
        self.stop(number).await;
        self.does("starts again");
        self.start(&self.plants[number])
    }

    async fn stop(&mut self, number: usize) {
        let (way, grace) = (self.random.below(3), self.random.micros(5_000));
        let plant = &self.plants[number];
        match (&plant.timer, way) {
            (Kind::Units(timer), 0) => drop(timer.cancel().await),
            (timer, 1) => drop(timer.any().shutdown(grace).await),
            (timer, _) => drop(timer.any().cancel().await),
        }
        plant.watch.end();
        if plant.timer.is_running() {
            complain("a timer runs that was stopped".to_owned());
        }
    }

    /// A timer goes, and another comes.
    async fn exchange(&mut self) -> Result<(), Error> {
        let number = self.any_plant();
        let plant = self.plants.swap_remove(number);
        self.uproot(plant).await;
        let plant = Plant::sow(&self.soil, &mut self.random)?;
        self.start(&plant)?;
        self.plants.push(plant);
        Ok(())
    }

    async fn uproot(&mut self, plant: Plant) {
        self.does("uproots");
        if self.random.one_in(2) {
            return; // the last handle goes
        }
        self.plants.push(plant);
        self.stop(self.plants.len() - 1).await;
        self.plants.pop();
    }

    /// Waits, which may be given up.
    async fn ask(&mut self) -> Result<(), Error> {
        self.does("asks");
        let (number, hits) = (self.any_plant(), 1 + self.random.below(3));
        let timer = self.plants[number].timer.any();
        match self.random.below(4) {
            0 => {
                let runs = timer.stats().runs;
                let answer = self.within(PATIENCE, timer.trigger()).await;
                let sample = answer.and_then(|value| value.ok()?.downcast::<crate::plants::Sample>().ok());
                if sample.is_some_and(|sample| sample.run <= runs) {
                    complain("a trigger was answered by a run before it".to_owned());
                }
            }
            1 => drop(self.within(PATIENCE, timer.join()).await),
            2 => drop(self.within(PATIENCE, timer.wait_more(hits)).await),
            _ => drop(timer.trigger()), // nobody waits for it
        }
        Ok(())
    }

    fn command(&mut self) -> Result<(), Error> {
        self.does("commands");
        let (number, period) = (self.any_plant(), period(&mut self.random));
        let plant = &self.plants[number];
        let timer = plant.timer.any();
        match self.random.below(4) {
            0 => plant.watch.change_period(period, || timer.set_period(period)),
            1 => plant.watch.change_period(period, || timer.rearm(period)),
            2 => timer.pause(),
            _ => timer.resume(),
        }
        Ok(())
    }

    /// Feeds come, are read, and go.
    fn feed(&mut self) -> Result<(), Error> {
        self.does("feeds");
        let number = self.any_plant();
        let bound = usize::try_from(1 + self.random.below(8)).unwrap_or(1);
        let (way, newest) = (self.random.below(4), self.random.one_in(2));
        let plant = &mut self.plants[number];
        let Kind::Samples(timer) = &plant.timer else { return Ok(()) };
        if way == 0 || plant.feeds.is_empty() {
            let feed = timer.subscribe().bounded(bound);
            let feed = if newest { feed.drop_newest() } else { feed };
            plant.feeds.push((feed.open()?, 0));
        } else if way == 1 || plant.feeds.len() > 3 {
            plant.feeds.pop();
        }
        for (feed, last) in &mut plant.feeds {
            while let Some(Ok(sample)) = feed.try_next() {
                count(&TALLY.feed_values);
                if sample.run <= *last {
                    complain(format!("a feed goes back from run {last} to {}", sample.run));
                }
                *last = sample.run;
            }
        }
        Ok(())
    }

    /// Some timers together.
    async fn group(&mut self) -> Result<(), Error> {
        self.does("groups");
        let group = Group::named("soak");
        for _ in 0..2 + self.random.below(8) {
            let number = self.any_plant();
            group.add(self.plants[number].timer.any())?;
        }
        match self.random.below(4) {
            0 => drop(self.within(PATIENCE, group.trigger()).await),
            1 => drop(self.within(PATIENCE, group.wait_more(1)).await),
            // Some of the group's were ended, and some of them twice: the plants find out when they are mended.
            2 => drop(group.cancel().await),
            _ => drop(group.shutdown(Duration::from_millis(5)).await),
        }
        Ok(())
    }

    async fn scope(&mut self) -> Result<(), Error> {
        self.does("scopes");
        let scope = Scope::new();
        let mut session = Vec::new();
        for _ in 0..1 + self.random.below(4) {
            let plant = Plant::sow(&self.soil, &mut self.random)?;
            scope.tie(plant.timer.any());
            self.start(&plant)?;
            session.push(plant);
        }
        let (pause, grace) = (self.random.micros(3_000), Duration::from_secs(1));
        self.rest(pause).await;
        if self.random.one_in(3) {
            drop(scope); // asks them to stop
            for plant in session {
                drop(plant.timer.any().wait().await);
            }
            return Ok(());
        }
        let left = match self.place {
            Place::Thread => scope.close(grace).left,
            Place::Task => {
                tokio::task::spawn_blocking(move || scope.close(grace).left).await.unwrap_or_default()
            }
        };
        for plant in session {
            plant.watch.end();
            if plant.timer.is_running() && left.is_empty() {
                complain("a timer runs whose scope was closed".to_owned());
            }
        }
        Ok(())
    }

    async fn one_shot(&mut self) -> Result<(), Error> {
        self.does("shoots once");
        let Soil::Engine(engine) = &self.soil else { return Ok(()) };
        let token = Token::new();
        let shot = engine.after(Duration::from_micros(self.random.below(20_000)), move || drop(token))?;
        match self.random.below(4) {
            0 => drop(shot.wait().await?),
            1 => shot.detach(),
            2 => _ = shot.cancel(),
            _ => drop(shot),
        }
        Ok(())
    }

    fn periodic_task(&mut self) -> Result<(), Error> {
        self.does("starts and stops a task");
        let (Soil::Engine(engine), Place::Thread) = (&self.soil, self.place) else { return Ok(()) };
        let token = Token::new();
        let task = PeriodicTask::of(engine.every(Duration::from_millis(1)), move || {
            let _held = &token;
        })?;
        for _ in 0..3 {
            task.start()?;
            std::thread::sleep(Duration::from_micros(self.random.below(2_000)));
            task.stop();
            let runs = task.timer().stats().runs;
            if task.is_running() || task.timer().stats().runs != runs {
                complain("a task runs that was stopped".to_owned());
            }
        }
        Ok(())
    }

    async fn ticks(&mut self) -> Result<(), Error> {
        self.does("iterates over ticks");
        let mut ticks = self.soil.every(Duration::from_millis(2)).fixed_rate().max_runs(5).ticks()?;
        let mut last = None;
        while let Some(tick) = ticks.next().await {
            if last.is_some_and(|last| tick.slot <= last) {
                complain(format!("slot {} after {last:?}", tick.slot));
            }
            last = Some(tick.slot);
        }
        Ok(())
    }

    /// An engine comes and goes, with all that lives there.
    fn own_engine(&mut self) -> Result<(), Error> {
        self.does("has an engine of its own");
        let (Soil::Engine(_), Place::Thread) = (&self.soil, self.place) else { return Ok(()) };
        let engine = Engine::builder().workers(self.random.index(3)).build();
        let soil = Soil::Engine(engine.clone());
        let mut plants = Vec::new();
        for _ in 0..20 {
            let plant = Plant::sow(&soil, &mut self.random)?;
            self.start(&plant)?;
            plants.push(plant);
        }
        std::thread::sleep(Duration::from_micros(self.random.below(5_000)));
        let left = engine.close(Duration::from_secs(30));
        plants.iter().for_each(|plant| plant.watch.end());
        if left > 0 || plants.iter().any(|plant| plant.timer.is_running()) {
            complain(format!("{left} timers are left on an engine that was closed"));
        }
        Ok(())
    }

    /// Starts what has ended by itself.
    fn mend(&mut self) -> Result<(), Error> {
        self.does("mends");
        for plant in &self.plants {
            if !plant.timer.is_running() {
                self.start(plant)?;
            }
        }
        Ok(())
    }
}
