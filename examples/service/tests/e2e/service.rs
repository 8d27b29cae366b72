//! The real binary as a child process, and a client that talks to it.

use std::io::{BufRead, BufReader, Read};
use std::net::TcpStream;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use serde_json::Value;

/// Only a service that hangs is this slow. Nothing here waits for a time to pass, only for conditions.
const PATIENCE: Duration = Duration::from_secs(30);

/// A running service. It is killed when the test is over, however that ends.
pub(crate) struct Service {
    child: Child,
    stdout: Output,
    stderr: Output,
}

/// How it ended.
pub(crate) struct Exit {
    pub(crate) code: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Service {
    /// Starts it with these environment variables and no others.
    pub(crate) fn spawn(settings: &[(&str, &str)]) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_everbeat-service"));
        command.env_clear().envs(settings.iter().copied());
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().expect("the binary starts");
        let stdout = Output::of(child.stdout.take().expect("piped"));
        let stderr = Output::of(child.stderr.take().expect("piped"));
        Self { child, stdout, stderr }
    }

    /// Starts it on any free port and waits until it listens.
    pub(crate) fn listening(settings: &[(&str, &str)]) -> (Self, Client) {
        let service = Self::spawn(&[&[("EVERBEAT_ADDR", "127.0.0.1:0")], settings].concat());
        let addr = service.until("it tells its address", || {
            let stdout = service.stdout.text();
            let (_, rest) = stdout.split_once("listens on http://")?;
            rest.split_once('\n').map(|(addr, _)| addr.to_owned())
        });
        (service, Client::new(addr))
    }

    /// Waits until it has said this on its standard output.
    pub(crate) fn wait_for_output(&self, text: &str) {
        self.until(text, || self.stdout.text().contains(text).then_some(()));
    }

    /// Waits until it has logged this.
    pub(crate) fn wait_for_log(&self, text: &str) {
        self.until(text, || self.stderr.text().contains(text).then_some(()));
    }

    /// Sends it a signal, by the name that `kill` knows it by.
    pub(crate) fn signal(&self, name: &str) {
        let pid = self.child.id().to_string();
        let status = Command::new("kill").args(["-s", name, &pid]).status().expect("there is `kill`");
        assert!(status.success(), "kill -s {name} {pid}: {status}");
    }

    /// Waits until it has ended by itself.
    pub(crate) fn exit(mut self) -> Exit {
        let deadline = Instant::now() + PATIENCE;
        let status = loop {
            if let Some(status) = self.child.try_wait().expect("it can be waited for") {
                break status;
            }
            assert!(Instant::now() < deadline, "it did not end\n{}", self.said());
            pause();
        };
        Exit { code: status.code(), stdout: self.stdout.all(), stderr: self.stderr.all() }
    }

    /// Asks again and again until there is an answer.
    pub(crate) fn until<T>(&self, what: &str, mut ask: impl FnMut() -> Option<T>) -> T {
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(answer) = ask() {
                return answer;
            }
            assert!(Instant::now() < deadline, "waited in vain: {what}\n{}", self.said());
            pause();
        }
    }

    fn said(&self) -> String {
        format!("stdout:\n{}\nstderr:\n{}", self.stdout.text(), self.stderr.text())
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        // Errors say that it has ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What was written to a pipe so far.
struct Output {
    text: Arc<Mutex<String>>,
    reader: Option<JoinHandle<()>>,
}

impl Output {
    fn of(pipe: impl Read + Send + 'static) -> Self {
        let text = Arc::<Mutex<String>>::default();
        let sink = text.clone();
        let reader = thread::spawn(move || {
            for line in BufReader::new(pipe).lines().map_while(Result::ok) {
                let mut text = sink.lock().unwrap();
                text.push_str(&line);
                text.push('\n');
            }
        });
        Self { text, reader: Some(reader) }
    }

    fn text(&self) -> String {
        self.text.lock().unwrap().clone()
    }

    /// All of it: waits for the end of the pipe.
    fn all(&mut self) -> String {
        if let Some(reader) = self.reader.take() {
            reader.join().unwrap();
        }
        self.text()
    }
}

#[derive(Clone)]
pub(crate) struct Client {
    agent: ureq::Agent,
    pub(crate) addr: String,
}

impl Client {
    fn new(addr: String) -> Self {
        let config = ureq::Agent::config_builder().proxy(None).http_status_as_error(false);
        Self { agent: config.timeout_global(Some(2 * PATIENCE)).build().new_agent(), addr }
    }

    /// The answer to a request that succeeds.
    pub(crate) fn get(&self, path: &str) -> Value {
        ok(path, answer(self.agent.get(self.url(path)).call()))
    }

    /// The answer to a request that succeeds.
    pub(crate) fn post(&self, path: &str) -> Value {
        ok(path, self.try_post(path))
    }

    /// The status and the answer, whatever they are.
    pub(crate) fn try_post(&self, path: &str) -> (u16, Value) {
        answer(self.agent.post(self.url(path)).send_empty())
    }

    /// Sends the request from a thread of its own.
    pub(crate) fn post_meanwhile(&self, path: &'static str) -> JoinHandle<(u16, Value)> {
        let client = self.clone();
        thread::spawn(move || client.try_post(path))
    }

    /// What `/timers` says of one of them.
    pub(crate) fn timer(&self, name: &str) -> Value {
        let timers = self.get("/timers");
        let timer = timers.as_array().unwrap().iter().find(|timer| timer["name"] == name);
        timer.unwrap_or_else(|| panic!("{name} in {timers}")).clone()
    }

    pub(crate) fn events(&self) -> Events {
        let response = self.agent.get(self.url("/events")).call().unwrap();
        assert_eq!(response.headers()["content-type"], "text/event-stream");
        Events(BufReader::new(Box::new(response.into_body().into_reader())))
    }

    /// A connection on which nothing was sent yet.
    pub(crate) fn connect(&self) -> TcpStream {
        TcpStream::connect(&self.addr).unwrap()
    }

    fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.addr)
    }
}

/// An answer that was cut off, or is no JSON, fails the test.
fn answer(response: Result<ureq::http::Response<ureq::Body>, ureq::Error>) -> (u16, Value) {
    let mut response = response.unwrap();
    let body = response.body_mut().read_to_string().unwrap();
    let json = serde_json::from_str(&body).unwrap_or_else(|error| panic!("{error}: {body}"));
    (response.status().as_u16(), json)
}

fn ok(path: &str, (status, json): (u16, Value)) -> Value {
    assert_eq!(status, 200, "{path}: {json}");
    json
}

/// The events of `/events`: the id, and the data as JSON. A stream that is cut off fails the test.
pub(crate) struct Events(BufReader<Box<dyn Read>>);

impl Iterator for Events {
    type Item = (u64, Value);

    fn next(&mut self) -> Option<Self::Item> {
        let (mut id, mut data) = (None, None);
        let mut line = String::new();
        while self.0.read_line(&mut line).unwrap() > 0 {
            match line.trim_end().split_once(": ") {
                Some(("id", value)) => id = Some(value.parse().unwrap()),
                Some(("data", value)) => data = Some(serde_json::from_str(value).unwrap()),
                _ if line == "\n" && data.is_some() => return id.zip(data),
                _ => {}
            }
            line.clear();
        }
        assert!(data.is_none(), "the stream ended within an event");
        None
    }
}

/// Between two looks at a condition.
fn pause() {
    thread::sleep(Duration::from_millis(20));
}
