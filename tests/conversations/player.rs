//! Holds a conversation, step by step.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use crate::connection::{Connection, Received};
use crate::json::Json;
use crate::script::{
    Answer, Conversation, Greeting, Program, Request, Response, Say, Step, Stream, When, identify,
};
use crate::servers::{Kind, Ports, Process};
use crate::support::DEADLINE;
use crate::text::{Remotes, Text};

/// How often something that is waited for is asked for.
const PAUSE: Duration = Duration::from_millis(20);

pub struct Player<'a> {
    kind: &'a Kind,
    ports: Vec<Ports>,
    /// Which member has the nsqds, and which was asked last over HTTP.
    tcp: usize,
    http: usize,
    connections: BTreeMap<String, Connection>,
    remotes: Remotes,
    program: Option<Process>,
    /// When the step before this one began.
    before: Instant,
}

impl<'a> Player<'a> {
    /// In a cluster, conversation by conversation another member has the nsqds.
    pub fn new(kind: &'a Kind, ports: Vec<Ports>, number: usize) -> Player<'a> {
        Player {
            kind,
            ports,
            tcp: number,
            http: number,
            connections: BTreeMap::new(),
            remotes: Remotes::new(),
            program: None,
            before: Instant::now(),
        }
    }

    /// The error says at which line of the script it differs, and how.
    pub fn play(&mut self, conversation: &Conversation) -> Result<(), String> {
        for (line, step) in &conversation.steps {
            let begun = Instant::now();
            let played = self.step(step);
            played.map_err(|error| format!("{line}: {error}"))?;
            self.before = begun;
        }
        Ok(())
    }

    /// Empties the registry again.
    pub fn clean_up(mut self) -> Result<(), String> {
        for connection in self.connections.values_mut() {
            connection.end_input();
        }
        for connection in self.connections.values_mut() {
            connection.rest()?;
        }
        self.connections.clear();
        if self.program.is_some() {
            return Ok(());
        }
        let topics = self.ask("GET", "/topics")?;
        let topics: serde_json::Value =
            serde_json::from_slice(&topics.body).map_err(|error| error.to_string())?;
        for topic in topics["topics"].as_array().into_iter().flatten() {
            let topic = topic.as_str().unwrap_or_default().replace('#', "%23");
            self.ask("POST", &format!("/topic/delete?topic={topic}"))?;
        }
        let started = Instant::now();
        // A connection that was broken off may be noticed a little later.
        while self.ask("GET", "/debug")?.body != b"{}" {
            if started.elapsed() > DEADLINE {
                return Err("the registry does not become empty afterwards".into());
            }
            std::thread::sleep(PAUSE);
        }
        Ok(())
    }

    fn step(&mut self, step: &Step) -> Result<(), String> {
        match step {
            Step::Connect(who, greeting) => self.connect(who, greeting),
            Step::Say(who, say) => self.say(who, say),
            Step::Hear(who, wanted, times) => (0..*times).try_for_each(|_| self.hear(who, wanted)),
            Step::IsClosed(who) => match &self.connection(who)?.rest()?[..] {
                b"" => Ok(()),
                rest => Err(format!("not closed, but \"{}\"", rest.escape_ascii())),
            },
            Step::HearHttp(who, wanted) => {
                let received = self.connection(who)?.response()?;
                self.compare(wanted, &received)
            }
            Step::Ask(request, When::Now, wanted) => {
                let received = self.request(request)?;
                self.compare(wanted, &received)
            }
            Step::Ask(request, When::Eventually(not_before), wanted) => {
                self.eventually(request, *not_before, wanted)
            }
            Step::Wait(duration) => {
                std::thread::sleep(*duration);
                Ok(())
            }
            Step::Program(step) => self.program(step),
        }
    }

    fn connection(&mut self, who: &str) -> Result<&mut Connection, String> {
        let found = self.connections.get_mut(who);
        found.ok_or(format!("{who} is not connected"))
    }

    fn connect(&mut self, who: &str, greeting: &Greeting) -> Result<(), String> {
        let http = matches!(greeting, Greeting::Http);
        let port = if http { self.next_http() } else { self.tcp() };
        let mut connection = Connection::open(port)?;
        self.remotes.insert(who.into(), connection.remote());
        if matches!(greeting, Greeting::Magic | Greeting::Nsqd(_)) {
            connection.send(b"  V1");
        }
        self.connections.insert(who.into(), connection);
        if let Greeting::Nsqd(host) = greeting {
            let body = format!(
                r#"{{"broadcast_address":"{host}","hostname":"{host}","tcp_port":4150,"http_port":4151,"version":"1.3.0"}}"#
            );
            let identify = identify(body.as_bytes());
            self.say(who, &Say::Command(identify))?;
            let known = Answer::Json(Json::pattern(r#"{"tcp_port":<number>,...}"#)?);
            self.hear(who, &known)?;
        }
        Ok(())
    }

    fn tcp(&self) -> u16 {
        self.ports[self.tcp % self.ports.len()].tcp
    }

    fn next_http(&mut self) -> u16 {
        self.http += 1;
        self.ports[self.http % self.ports.len()].http
    }

    fn say(&mut self, who: &str, say: &Say) -> Result<(), String> {
        let connection = self.connection(who)?;
        connection.last_command = None;
        match say {
            Say::Command(bytes) => connection.send_command(bytes),
            Say::Bytes(bytes) => connection.send(bytes),
            Say::Keep(bytes) => connection.kept = Some(bytes.clone()),
            Say::NoMore => connection.end_input(),
            Say::Leave => {
                connection.end_input();
                connection.rest()?;
                self.connections.remove(who);
            }
            Say::BreakOff => {
                if let Some(connection) = self.connections.remove(who) {
                    connection.break_off();
                }
            }
        }
        Ok(())
    }

    fn hear(&mut self, who: &str, wanted: &Answer) -> Result<(), String> {
        let started = Instant::now();
        loop {
            let connection = self.connection(who)?;
            let answer = connection.answer()?;
            let answer = answer.ok_or("the connection is closed instead")?;
            // On a busy machine that is no failure.
            if answer.starts_with(b"E_UNAVAILABLE")
                && started.elapsed() < DEADLINE
                && let Some(command) = connection.last_command.clone()
            {
                connection.send(&command);
                continue;
            }
            return match self.fits(wanted, &answer) {
                true => Ok(()),
                false => Err(format!("answered \"{}\"", answer.escape_ascii())),
            };
        }
    }

    fn fits(&self, wanted: &Answer, got: &[u8]) -> bool {
        match wanted {
            Answer::Text(text) => text.matches(got, &self.remotes),
            Answer::Json(json) => std::str::from_utf8(got)
                .ok()
                .and_then(|got| Json::received(got).ok())
                .is_some_and(|got| json.matches(&got, &self.remotes)),
        }
    }

    fn ask(&mut self, method: &str, target: &str) -> Result<Received, String> {
        self.request(&Request {
            method: method.into(),
            target: target.into(),
            headers: Vec::new(),
            body: Vec::new(),
        })
    }

    /// Asked again if the member has no quorum just now: on a busy machine that is no failure.
    fn request(&mut self, request: &Request) -> Result<Received, String> {
        let started = Instant::now();
        loop {
            let received = self.exchange(request)?;
            let stale = received.header("x-raftlookupd-consistency") == Some("stale");
            let late = stale || matches!(received.status, 503 | 504);
            if !late || started.elapsed() > DEADLINE {
                return Ok(received);
            }
        }
    }

    fn exchange(&mut self, request: &Request) -> Result<Received, String> {
        let Request {
            method,
            target,
            headers,
            body,
        } = request;
        let mut head = format!("{method} {target} HTTP/1.1\r\nHost: lookupd\r\n");
        for header in headers {
            head.push_str(&format!("{header}\r\n"));
        }
        if method == "POST" || !body.is_empty() {
            head.push_str(&format!("Content-Length: {}\r\n", body.len()));
        }
        let mut connection = Connection::open(self.next_http())?;
        connection.send(&[head.as_bytes(), b"\r\n", body].concat());
        connection.response()
    }

    fn eventually(
        &mut self,
        request: &Request,
        not_before: Duration,
        wanted: &Response,
    ) -> Result<(), String> {
        let (started, earliest) = (Instant::now(), self.before + not_before);
        loop {
            for connection in self.connections.values_mut() {
                if let Some(command) = connection.kept.clone() {
                    connection.send(&command);
                    connection.answer()?;
                }
            }
            let received = self.request(request)?;
            match self.compare(wanted, &received) {
                Ok(()) if Instant::now() < earliest => return Err("too early".into()),
                Err(error) if started.elapsed() > DEADLINE => return Err(error),
                Ok(()) => return Ok(()),
                Err(_) => std::thread::sleep(PAUSE),
            }
        }
    }

    fn compare(&self, wanted: &Response, got: &Received) -> Result<(), String> {
        let compared = if got.status != wanted.status {
            Err("another status".to_string())
        } else if !self.fits(&wanted.body, &got.body) {
            Err("another body".to_string())
        } else {
            self.compare_headers(wanted, got)
        };
        compared.map_err(|error| {
            let body = String::from_utf8_lossy(&got.body);
            format!("{error}: {} {body}\n{:?}", got.status, got.headers)
        })
    }

    fn compare_headers(&self, wanted: &Response, got: &Received) -> Result<(), String> {
        for (name, value) in &wanted.headers {
            let found = got.header(name).ok_or(format!("no header {name}"))?;
            if !value.matches(found.as_bytes(), &self.remotes) {
                return Err(format!("another {name}"));
            }
        }
        let ours = |name: &str| name.starts_with("x-raftlookupd-");
        let named = |name: &str| wanted.headers.iter().any(|(wanted, _)| wanted == name);
        let mut names = got.headers.iter().map(|(name, _)| name.as_str());
        let surplus = names.find(|name| {
            let unexpected = wanted.complete && !named(name) && !ours(name);
            unexpected || wanted.absent.iter().any(|absent| absent == name)
        });
        surplus.map_or(Ok(()), |name| Err(format!("a header {name}")))
    }

    fn program(&mut self, step: &Program) -> Result<(), String> {
        if let Program::Start { flags, file, stays } = step {
            let process = Process::start(self.kind, flags, file);
            if *stays {
                process.wait_ready();
                self.ports = vec![process.ports];
            }
            self.program = Some(process);
            return Ok(());
        }
        let program = self.program.as_mut().ok_or("no program was started")?;
        match step {
            Program::Start { .. } => Ok(()),
            Program::StartAgain => {
                program.start_again();
                Ok(())
            }
            Program::Signal(name) => {
                program.signal(name);
                Ok(())
            }
            Program::Exit(code) => match program.wait_for_exit() {
                Some(got) if got == *code => Ok(()),
                got => Err(format!("exit code {got:?}: {}", program.printed("stderr"))),
            },
            Program::Prints(stream, line) => self.prints(*stream, line),
            Program::PrintsNothing(stream) => match program.printed(stream.name()).as_str() {
                "" => Ok(()),
                printed => Err(format!("it printed {printed:?}")),
            },
        }
    }

    /// It may print a little later than it answers.
    fn prints(&mut self, stream: Stream, line: &Text) -> Result<(), String> {
        let started = Instant::now();
        let program = self.program.as_mut().ok_or("no program was started")?;
        loop {
            let over = program.has_ended() || started.elapsed() > DEADLINE;
            let printed = program.printed(stream.name());
            let mut lines = printed.lines();
            if lines.any(|printed| line.matches(printed.as_bytes(), &self.remotes)) {
                return Ok(());
            }
            if over {
                return Err(format!("it printed {printed:?}"));
            }
            std::thread::sleep(PAUSE);
        }
    }
}

impl Stream {
    fn name(self) -> &'static str {
        match self {
            Stream::Out => "stdout",
            Stream::Err => "stderr",
        }
    }
}
