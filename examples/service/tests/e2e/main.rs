//! The service as a whole: the real binary, in real time, asked over HTTP and stopped by signals.
#![cfg(unix)]

mod service;

use std::io::Write;

use serde_json::Value;

use crate::service::{Client, Service};

/// No tick of this period comes during a test after the first: runs are those that the test asks for.
const NEVER: (&str, &str) = ("EVERBEAT_PERIOD_MS", "3600000");

/// The figures of a reading are all there and make sense.
fn assert_complete(reading: &Value) {
    assert!(reading["run"].as_u64().unwrap() >= 1, "{reading}");
    assert!(reading["taken_unix_ms"].as_u64().unwrap() > 1_600_000_000_000, "{reading}");
    assert!(reading["age_ms"].is_u64(), "{reading}");
    let figures = &reading["figures"];
    assert!((0.0..=100.1).contains(&figures["cpu"]["percent"].as_f64().unwrap()), "{figures}");
    let memory = |field: &str| figures["memory"][field].as_u64().unwrap();
    assert!(memory("total_bytes") >= memory("available_bytes"), "{figures}");
    assert!(memory("total_bytes") > 0, "{figures}");
    assert!(figures["networks"].is_object(), "{figures}");
}

fn assert_complete_snapshot(snapshot: &Value) {
    assert_complete(&snapshot["machine"]);
    assert!(snapshot["disks"]["run"].as_u64().unwrap() >= 1, "{snapshot}");
    assert!(snapshot["disks"]["figures"].is_array(), "{snapshot}");
}

fn machine_run(snapshot: &Value) -> u64 {
    snapshot["machine"]["run"].as_u64().unwrap()
}

/// Waits until this run of this timer is in flight.
fn wait_for_run(service: &Service, client: &Client, timer: &str, run: u64) {
    service.until("the run is in flight", || {
        let timer = client.timer(timer);
        (timer["busy"] == true && timer["runs"] == run).then_some(())
    });
}

#[test]
fn the_cache_is_warm_from_the_first_request_on_and_refreshed_on_request() {
    // D1, D3, D5
    let (_service, client) = Service::listening(&[NEVER]);
    let cached = client.get("/");
    assert_complete_snapshot(&cached);
    assert_eq!(machine_run(&cached), 1);
    let fresh = client.post("/refresh");
    assert_complete_snapshot(&fresh);
    assert_eq!(machine_run(&fresh), 2);
    assert_eq!(client.get("/")["machine"]["taken_unix_ms"], fresh["machine"]["taken_unix_ms"]);
}

#[test]
fn the_timers_tell_what_they_did_and_take_commands() {
    // S7, S10, O3
    let (service, client) = Service::listening(&[("EVERBEAT_PERIOD_MS", "50")]);
    service.until("some ticks", || (client.timer("machine")["hits"].as_u64() >= Some(3)).then_some(()));
    for name in ["machine", "disks", "heartbeat"] {
        let timer = client.timer(name);
        assert_eq!((&timer["running"], &timer["paused"]), (&true.into(), &false.into()), "{timer}");
        assert_eq!(timer["failures"], 0, "{timer}");
        assert!(timer["runs"].as_u64() >= timer["hits"].as_u64(), "{timer}");
        assert!(["overrun", "paused", "late", "backoff"].iter().all(|why| timer["skipped"][why].is_u64()));
        for summary in [&timer["lateness_us"], &timer["duration_us"]] {
            let figure = |name: &str| summary[name].as_u64().unwrap_or_else(|| panic!("{timer}"));
            assert!(figure("mean") <= figure("max") && figure("last") <= figure("max"), "{timer}");
            assert!(figure("p50") <= figure("p99") && figure("p99") <= figure("max"), "{timer}");
        }
    }
    assert!(client.timer("disks")["next_due_ms"].as_u64().unwrap() <= 30_000);
    assert!(client.timer("machine")["duration_us"]["max"].as_u64().unwrap() > 0);

    assert_eq!(client.post("/timers/machine/pause")["paused"], true);
    assert_eq!(client.timer("machine")["next_due_ms"], Value::Null);
    assert_eq!(client.post("/timers/machine/resume")["paused"], false);
    let heartbeats = client.post("/timers/heartbeat/period?ms=20")["hits"].as_u64().unwrap();
    service.until("it beats faster", || {
        (client.timer("heartbeat")["hits"].as_u64().unwrap() > heartbeats + 3).then_some(())
    });

    assert_eq!(client.try_post("/timers/nobody/pause").0, 404);
    let (status, refusal) = client.try_post("/timers/machine/period?ms=1");
    assert_eq!((status, &refusal["error"]), (400, &"ms is 1, but must be from 10 to 3600000".into()));
}

#[test]
fn the_cache_answers_during_a_slow_refresh_and_all_who_ask_meanwhile_share_the_next() {
    // D1, D5
    let (service, client) = Service::listening(&[NEVER, ("EVERBEAT_REFRESH_TAKES_MS", "4000")]);
    let asked_before = client.post_meanwhile("/refresh");
    wait_for_run(&service, &client, "machine", 2);
    let asked_during = [client.post_meanwhile("/refresh"), client.post_meanwhile("/refresh")];
    // An answer with the figures of run 1, and run 2 is in flight afterwards: it was not waited for.
    assert_eq!(machine_run(&client.get("/")), 1);
    let machine = client.timer("machine");
    assert_eq!((&machine["busy"], &machine["runs"]), (&true.into(), &2.into()));

    let run = |asked: std::thread::JoinHandle<(u16, Value)>| {
        let (status, snapshot) = asked.join().unwrap();
        assert_eq!(status, 200, "{snapshot}");
        machine_run(&snapshot)
    };
    assert_eq!(run(asked_before), 2);
    assert_eq!(asked_during.map(run), [3, 3]);
    assert_eq!(client.timer("machine")["runs"], 3);
}

#[test]
fn events_are_successive_runs_and_the_stream_ends_with_the_timer() {
    // D4, D6
    let (service, client) = Service::listening(&[("EVERBEAT_PERIOD_MS", "100")]);
    let mut events = client.events();
    let seen: Vec<_> = events.by_ref().take(5).collect();
    for (place, (id, reading)) in (0..).zip(&seen) {
        assert_eq!(*id, seen[0].0 + place, "{seen:?}");
        assert_eq!(reading["run"], *id);
        assert_complete(reading);
    }
    service.signal("INT"); // Ctrl-C
    let last = events.last().map_or(seen[4].0, |(id, _)| id);
    assert!(last >= seen[4].0);
    let exit = service.exit();
    assert_eq!(exit.code, Some(0), "{}", exit.stderr);
}

#[test]
fn a_client_that_goes_away_takes_its_feed_with_it() {
    // D8
    let (service, client) = Service::listening(&[("EVERBEAT_PERIOD_MS", "50")]);
    let mut events = client.events();
    assert!(events.next().is_some());
    drop(events);
    service.wait_for_log("event stream closed");
}

#[test]
fn sigterm_lets_a_run_in_flight_finish_and_its_answer_arrive() {
    // L3
    let settings = [NEVER, ("EVERBEAT_REFRESH_TAKES_MS", "2000"), ("EVERBEAT_GRACE_MS", "25000")];
    let (service, client) = Service::listening(&settings);
    let events = client.events();
    let asked = client.post_meanwhile("/refresh");
    wait_for_run(&service, &client, "machine", 2);
    service.signal("TERM");

    let (status, snapshot) = asked.join().unwrap();
    assert_eq!((status, machine_run(&snapshot)), (200, 2), "{snapshot}");
    assert_complete_snapshot(&snapshot);
    assert_eq!(events.map(|(id, _)| id).collect::<Vec<_>>(), [2]);
    let exit = service.exit();
    assert_eq!(exit.code, Some(0), "{}", exit.stderr);
    let line = "everbeat-service stopped: machine drained, disks drained, heartbeat drained\n";
    assert!(exit.stdout.ends_with(line), "{}", exit.stdout);
}

#[test]
fn sigterm_gives_up_a_run_that_is_slower_than_the_grace_period() {
    // L3
    let settings = [NEVER, ("EVERBEAT_REFRESH_TAKES_MS", "8000"), ("EVERBEAT_GRACE_MS", "100")];
    let (service, client) = Service::listening(&settings);
    let asked = client.post_meanwhile("/refresh");
    wait_for_run(&service, &client, "machine", 2);
    service.signal("TERM");

    let (status, refusal) = asked.join().unwrap();
    assert_eq!(status, 503, "{refusal}");
    assert!(refusal["error"].as_str().unwrap().contains("longer than the grace period"), "{refusal}");
    let exit = service.exit();
    assert_eq!(exit.code, Some(0), "{}", exit.stderr);
    let line = "everbeat-service stopped: machine cancelled, disks drained, heartbeat drained\n";
    assert!(exit.stdout.ends_with(line), "{}", exit.stdout);
}

#[test]
fn sigterm_leaves_a_blocking_call_behind_that_nobody_can_interrupt() {
    // R7
    let settings = [NEVER, ("EVERBEAT_DISKS_TAKE_MS", "8000"), ("EVERBEAT_GRACE_MS", "100")];
    let (service, client) = Service::listening(&settings);
    let asked = client.post_meanwhile("/refresh");
    wait_for_run(&service, &client, "disks", 2);
    service.signal("TERM");

    let exit = service.exit();
    assert_eq!(exit.code, Some(0), "{}", exit.stderr);
    let line = "machine drained, disks left behind in a blocking call, heartbeat drained\n";
    assert!(exit.stdout.ends_with(line), "{}", exit.stdout);
    let _cut_off = asked.join();
}

#[test]
fn sigterm_before_the_first_figures_ends_it_before_it_listens() {
    let settings = [("EVERBEAT_ADDR", "127.0.0.1:0"), ("EVERBEAT_REFRESH_TAKES_MS", "8000")];
    let service = Service::spawn(&[&settings[..], &[("EVERBEAT_GRACE_MS", "0")]].concat());
    service.wait_for_output("reads the first figures");
    service.signal("TERM");
    let exit = service.exit();
    assert_eq!(exit.code, Some(0), "{}", exit.stderr);
    assert!(exit.stdout.contains("everbeat-service stopped: machine "), "{}", exit.stdout);
    assert!(!exit.stdout.contains("listens on"), "{}", exit.stdout);
}

#[test]
fn a_client_that_never_finishes_its_request_does_not_hold_up_the_end() {
    let (service, client) = Service::listening(&[NEVER]);
    let mut half = client.connect();
    half.write_all(b"GET / HTTP/1.1\r\nHost: ").unwrap();
    let _idle = client.connect();
    assert_complete_snapshot(&client.get("/"));
    service.signal("TERM");
    let exit = service.exit();
    assert_eq!(exit.code, Some(0), "{}", exit.stderr);
}

#[test]
fn a_port_that_is_taken_is_named() {
    let (_service, client) = Service::listening(&[NEVER]);
    let exit = Service::spawn(&[("EVERBEAT_ADDR", &client.addr)]).exit();
    assert_eq!(exit.code, Some(1), "{}", exit.stderr);
    let message = format!("everbeat-service: cannot listen on {}: Address already in use", client.addr);
    assert!(exit.stderr.contains(&message), "{}", exit.stderr);
    assert!(exit.stderr.contains("EVERBEAT_ADDR"), "{}", exit.stderr);
}

#[test]
fn a_bad_value_is_refused_with_its_variable_and_what_is_allowed() {
    let cases = [
        ("EVERBEAT_ADDR", "localhost", "an IP address and a port"),
        ("EVERBEAT_PERIOD_MS", "0", "a number of milliseconds from 10 to 3600000"),
        ("EVERBEAT_PERIOD_MS", "soon", "a number of milliseconds from 10 to 3600000"),
        ("EVERBEAT_GRACE_MS", "-1", "a number of milliseconds from 0 to 600000"),
        ("EVERBEAT_REFRESH_TAKES_MS", "20001", "a number of milliseconds from 0 to 20000"),
        ("EVERBEAT_DISKS_TAKE_MS", "", "a number of milliseconds from 0 to 20000"),
        ("RUST_LOG", "everbeat=loud", "a level or a list of target=level"),
    ];
    for (variable, value, allowed) in cases {
        let exit = Service::spawn(&[(variable, value)]).exit();
        assert_eq!((exit.code, &*exit.stdout), (Some(2), ""), "{}", exit.stderr);
        let message = format!("everbeat-service: {variable} is {value:?}, but must be {allowed}");
        assert!(exit.stderr.starts_with(&message), "{}", exit.stderr);
    }
}
