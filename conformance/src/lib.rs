//! Scenarios in virtual time that every driver of everbeat has to pass.
//!
//! The scenarios are JSON, in `scenarios/`; `README.md` beside this crate describes them field by field.
//! [`load`] reads and checks them, a [`Subject`] plays them, and [`check`] compares what it was seen to
//! do with what they expect.

mod always;
mod check;
mod company;
mod core_subject;
mod expect;
mod face_subject;
mod history;
mod load;
mod model;
mod scenario;
mod span;
mod trace;

pub use always::{check_always, what_always_holds};
pub use check::check;
pub use company::{
    BUSINESS, Business, Company, Foreseen, MEMBERS, Member, Order, Replies, Witnessed, check_company, company,
};
pub use core_subject::CoreSubject;
pub use expect::{
    AnswerSpec, Batch, Cause, Counters, EndSpec, Ended, Expect, FailureKind, FeedState, FeedThen, Got, Look,
    Reason, Repeat, ShutdownKind, Skipped, TickSpec,
};
pub use face_subject::{FaceSubject, Form, Place, play_company};
pub use history::{COMMAND, HEAD, Runs, Shape, compare_history, history, to_file, unpredicted};
pub use load::{Story, load, parse};
pub use model::{Unpredictable, compare_queue, foresee, predict};
pub use scenario::{
    BackoffSpec, Command, Do, Driver, DropPolicy, DropSpec, FeedSpec, Fraction, JitterSpec, MissedSpec, Mode,
    OnErrorSpec, Returns, RunPlan, Scenario, TargetSpec, TimerSpec, Topic,
};
pub use span::Span;
pub use trace::{Given, Run, RunEnd, Trace};

/// Something that can play a scenario.
pub trait Subject {
    /// What it is called in reports.
    fn name(&self) -> String;

    /// Which driver it stands for.
    fn driver(&self) -> Driver;

    /// Whether it can play this scenario, among those that its driver plays.
    fn can_play(&self, scenario: &Scenario) -> bool {
        let _ = scenario;
        true
    }

    /// Plays it.
    fn play(&self, scenario: &Scenario) -> Trace;
}
