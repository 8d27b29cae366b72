//! Compares what a company was seen to do with what it comes to.

use std::collections::BTreeSet;

use super::{Business, Company, Foreseen, Replies, Witnessed, key};
use crate::always::what_always_holds;
use crate::check::compare;
use crate::trace::Trace;

/// Everything in which they differ, ready to be printed. Empty if they do not. Where nothing is foreseen, it is what
/// holds whatever happens that is looked for.
#[must_use]
pub fn check_company(company: &Company, foreseen: Option<&Foreseen>, seen: &Witnessed<Trace>) -> Vec<String> {
    let mut differences = Vec::new();
    for (who, trace) in seen.members.iter().enumerate() {
        let mut found = match (foreseen.map(|foreseen| &foreseen.members[who]), trace) {
            (Some(None), None) | (None, _) => Vec::new(),
            (Some(Some(scenario)), Some(trace)) => compare(scenario, trace),
            (Some(None), Some(_)) => vec!["it should not have been made".to_owned()],
            (Some(Some(_)), None) => vec!["it was not made".to_owned()],
        };
        found.extend(trace.iter().flat_map(what_always_holds));
        found.extend(trace.iter().filter_map(|trace| made_once(company, who, trace, &seen.replies)));
        differences.extend(found.into_iter().map(|text| format!("member {who}: {text}")));
    }
    let Some(foreseen) = foreseen else { return differences };
    let keys: BTreeSet<_> = foreseen.replies.keys().chain(seen.replies.keys()).collect();
    for key in keys {
        let (wanted, seen) = (foreseen.replies.get(key), seen.replies.get(key));
        if wanted != seen {
            let text = |reply: Option<&String>| reply.cloned().unwrap_or_else(|| "nothing".to_owned());
            differences.push(format!("{key}\n    - {}\n    + {}", text(wanted), text(seen)));
        }
    }
    differences
}

/// A call is made once at most, and not if it was called off in time.
fn made_once(company: &Company, who: usize, trace: &Trace, replies: &Replies) -> Option<String> {
    if !company.members[who].once {
        return None;
    }
    let orders = company.orders.iter().enumerate();
    let mut called_off =
        orders.filter(|(_, order)| matches!(order.what, Business::CallOff(whom) if whom == who));
    let won = |number: usize| replies.get(&key(number, "call off")).is_some_and(|won| won == "true");
    let calls = trace.runs.len();
    if calls > 1 || calls == 1 && called_off.any(|(number, _)| won(number)) && !is_started_again(company) {
        return Some(format!("the call was made {calls} times"));
    }
    None
}

/// A group that is started makes of a call that was called off one that is to come.
fn is_started_again(company: &Company) -> bool {
    company.orders.iter().any(|order| matches!(order.what, Business::StartAll | Business::Add(_)))
}
