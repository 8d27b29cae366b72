//! Companies: timers that have a group, a scope and an engine in common, made of bytes like histories, and what the
//! model says that they come to.

mod check;
mod writer;

use std::collections::BTreeMap;
use std::fmt;

use serde::{Serialize, Serializer};

use crate::check::json;
use crate::face_subject::Form;
use crate::scenario::{Command, Do, Scenario};
use crate::span::Span;

pub use check::check_company;
pub use writer::{BUSINESS, MEMBERS, company};

/// Timers that have something in common, and what happens to them.
#[derive(Clone, Debug, Serialize)]
pub struct Company {
    /// The timers, in the order in which they are made.
    pub members: Vec<Member>,
    /// What happens, in order of time.
    pub orders: Vec<Order>,
    /// How long it is watched. After that nobody keeps the time any more.
    pub watch: Span,
}

impl fmt::Display for Company {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (number, member) in self.members.iter().enumerate() {
            writeln!(f, "member {number}: {}", json(member))?;
        }
        for (number, order) in self.orders.iter().enumerate() {
            writeln!(f, "{}: {}", key(number, &order.at.to_string()), json(&order.what))?;
        }
        write!(f, "watched for {}", self.watch)
    }
}

/// A timer of a company.
#[derive(Clone, Debug, Serialize)]
pub struct Member {
    /// How it is configured, what its runs are like, and whether it is started as it is made. It has no commands.
    #[serde(serialize_with = "plans")]
    pub scenario: Scenario,
    /// What it is made of.
    pub form: Form,
    /// Whether it is a call that is made once. Such a run is told nothing.
    pub once: bool,
    /// Whether it is made for the scope.
    pub tied: bool,
}

/// Something that happens at a time.
#[derive(Clone, Debug, Serialize)]
pub struct Order {
    /// When.
    pub at: Span,
    /// What.
    pub what: Business,
}

/// What can happen to a company.
#[derive(Clone, Debug, Serialize)]
pub enum Business {
    /// This member is made.
    Hire(usize),
    /// A command for this member, by its own handle.
    Tell(usize, Command),
    /// This call is called off.
    CallOff(usize),
    /// This call is made now.
    FireNow(usize, String),
    /// The result of this call is waited for.
    AwaitCall(usize, String),
    /// This member joins the group.
    Add(usize),
    /// This member leaves the group.
    Remove(usize),
    /// The group is started.
    StartAll,
    /// A request to all members of the group.
    AskAll(Do, Option<Span>),
    /// The group is dropped, and there is a new one.
    Disband,
    /// This member is tied to the scope.
    Tie(usize),
    /// The scope is closed, with this grace.
    CloseScope(Span),
    /// All timers of the scope are cancelled.
    CancelScope,
    /// The scope is dropped, and there is a new one.
    DropScope,
    /// The engine is closed, where there is one.
    CloseEngine,
    /// Nothing of the process runs for this long.
    Stall(Span),
}

/// What is answered to orders, what is seen of the whole before them, and how it ends: text by key.
pub type Replies = BTreeMap<String, String>;

/// What a company comes to.
#[derive(Clone, Debug, Default)]
pub struct Foreseen {
    /// The members that were made, each with what it was told and what is expected of it.
    pub members: Vec<Option<Scenario>>,
    /// The rest.
    pub replies: Replies,
}

/// What a company was seen to do.
#[derive(Clone, Debug, Default)]
pub struct Witnessed<T> {
    /// The members that were made.
    pub members: Vec<Option<T>>,
    /// The rest.
    pub replies: Replies,
}

/// Of a scenario what is of interest here.
fn plans<S: Serializer>(scenario: &Scenario, serializer: S) -> Result<S::Ok, S::Error> {
    (&scenario.timer, scenario.autostart, &scenario.runs, &scenario.other_runs).serialize(serializer)
}

/// What there is to be seen of the whole at one moment.
#[derive(Serialize)]
pub(crate) struct Sight {
    pub(crate) running: Vec<usize>,
    pub(crate) pending: Vec<usize>,
    pub(crate) group: Vec<String>,
    pub(crate) group_runs: bool,
    pub(crate) active: Vec<String>,
    pub(crate) scope_closed: bool,
}

/// The name of the answers to an order.
pub(crate) fn key(order: usize, what: &str) -> String {
    format!("order {order:02}: {what}")
}
