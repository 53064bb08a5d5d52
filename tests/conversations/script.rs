//! What a file of conversations says. PURE. `main.rs` describes the notation.

use std::collections::BTreeSet;
use std::iter::Peekable;
use std::time::Duration;

use crate::json::Json;
use crate::text::{Text, expand, unescape};

#[derive(Debug)]
pub struct Script {
    /// What the server is started with.
    pub flags: Vec<String>,
    pub conversations: Vec<Conversation>,
}

#[derive(Debug)]
pub struct Conversation {
    pub title: String,
    /// nsqlookupd answers otherwise.
    pub differs: bool,
    /// With the number of the line that each begins on.
    pub steps: Vec<(usize, Step)>,
}

impl Conversation {
    /// Whether it starts programs of its own.
    pub fn starts_programs(&self) -> bool {
        let mut steps = self.steps.iter();
        steps.any(|(_, step)| matches!(step, Step::Program(..)))
    }
}

#[derive(Debug)]
pub enum Step {
    Connect(String, Greeting),
    Say(String, Say),
    /// This connection's next answers.
    Hear(String, Answer, usize),
    IsClosed(String),
    HearHttp(String, Response),
    Ask(Request, When, Response),
    Wait(Duration),
    Program(Program),
}

#[derive(Debug)]
pub enum Greeting {
    Magic,
    Silence,
    Http,
    /// An nsqd that identifies itself as running on this host.
    Nsqd(String),
}

#[derive(Debug)]
pub enum Say {
    /// One command. It is said again if a member has no quorum just now.
    Command(Vec<u8>),
    Bytes(Vec<u8>),
    /// This, again and again, while something is waited for.
    Keep(Vec<u8>),
    NoMore,
    Leave,
    BreakOff,
}

#[derive(Debug)]
pub enum Answer {
    Json(Json),
    Text(Text),
}

#[derive(Debug)]
pub struct Request {
    pub method: String,
    pub target: String,
    pub headers: Vec<String>,
    pub body: Vec<u8>,
}

#[derive(Debug)]
pub enum When {
    Now,
    /// Asked until the answer fits, which it must not do for this long after the step before.
    Eventually(Duration),
}

#[derive(Debug)]
pub struct Response {
    pub status: u16,
    pub body: Answer,
    /// By their names in lower case.
    pub headers: Vec<(String, Text)>,
    pub absent: Vec<String>,
    /// There is no header but those.
    pub complete: bool,
}

#[derive(Debug)]
pub enum Program {
    /// Starts it with these flags and this file; if it stays, the conversation goes on with it.
    Start {
        flags: Vec<String>,
        file: String,
        stays: bool,
    },
    StartAgain,
    Signal(String),
    Exit(i32),
    /// A line of standard output, or of standard error.
    Prints(Stream, Text),
    PrintsNothing(Stream),
}

#[derive(Debug, Clone, Copy)]
pub enum Stream {
    Out,
    Err,
}

const METHODS: [&str; 8] = [
    "GET", "POST", "PUT", "DELETE", "HEAD", "PATCH", "OPTIONS", "TRACE",
];

impl Script {
    /// The error says on which line it is.
    pub fn parse(text: &str) -> Result<Script, String> {
        let mut lines = logical_lines(text).into_iter().peekable();
        let mut flags = Vec::new();
        if let Some((_, line)) = lines.next_if(|(_, line)| line.starts_with("flags: ")) {
            flags = words(&line).skip(1).collect();
        }
        let mut conversations = Vec::new();
        while let Some((number, line)) = lines.next() {
            let title = line.strip_prefix("## ");
            let title = title.ok_or(format!("line {number}: a title is expected"))?;
            let plain = title.strip_suffix(" (differs)");
            conversations.push(Conversation {
                title: plain.unwrap_or(title).into(),
                differs: plain.is_some(),
                steps: steps(&mut lines)?,
            });
        }
        Ok(Script {
            flags,
            conversations,
        })
    }
}

/// Without comments and empty lines; indented lines belong to the line above.
fn logical_lines(text: &str) -> Vec<(usize, String)> {
    let mut lines: Vec<(usize, String)> = Vec::new();
    for (number, line) in (1..).zip(text.lines()) {
        let comment = line.starts_with("# ") || line == "#";
        match lines.last_mut() {
            _ if line.is_empty() || comment => {}
            Some((_, above)) if line.starts_with(' ') => above.push_str(line.trim_start()),
            _ => lines.push((number, line.into())),
        }
    }
    lines.iter().map(|(at, line)| (*at, expand(line))).collect()
}

fn words(text: &str) -> impl Iterator<Item = String> {
    text.split_whitespace().map(str::to_string)
}

fn steps(
    lines: &mut Peekable<impl Iterator<Item = (usize, String)>>,
) -> Result<Vec<(usize, Step)>, String> {
    let mut steps = Vec::new();
    let mut http = BTreeSet::new();
    while let Some((number, line)) = lines.next_if(|(_, line)| !line.starts_with("## ")) {
        let mut rest = Vec::new();
        while let Some((_, line)) = lines.next_if(|(_, line)| is_detail(line)) {
            rest.push(line);
        }
        let step = step(&line, &rest, &mut http);
        steps.push((
            number,
            step.map_err(|error| format!("line {number}: {error}"))?,
        ));
    }
    Ok(steps)
}

/// Whether the line says more about the one before.
fn is_detail(line: &str) -> bool {
    let is_status = line.split(' ').next().unwrap_or_default().len() == 3
        && line.bytes().take(3).all(|byte| byte.is_ascii_digit());
    let starts = ["with ", "header ", "no header ", "no other header"];
    is_status || starts.iter().any(|start| line.starts_with(start))
}

fn step(line: &str, details: &[String], http: &mut BTreeSet<String>) -> Result<Step, String> {
    let (first, rest) = line.split_once(' ').unwrap_or((line, ""));
    if METHODS.contains(&first) {
        return ask(line, When::Now, details);
    }
    if first == "eventually" {
        let (not_before, request) = match rest.strip_prefix("not before ") {
            Some(rest) => rest.split_once(' ').ok_or("a request is expected")?,
            None => ("0ms", rest),
        };
        return ask(request, When::Eventually(duration(not_before)?), details);
    }
    if line == "start again" {
        return Ok(Step::Program(Program::StartAgain));
    }
    if first == "start" || first == "run" {
        return start(rest, first == "start", details);
    }
    if let Some(answer) = rest.strip_prefix("< ")
        && http.contains(first)
    {
        let details = [&[answer.to_string()], details].concat();
        return Ok(Step::HearHttp(first.into(), response(&details)?));
    }
    if let Some(detail) = details.first() {
        return Err(format!("nothing is asked for before {detail:?}"));
    }
    if let Some(step) = program(first, rest)? {
        return Ok(Step::Program(step));
    }
    if first == "wait" {
        return Ok(Step::Wait(duration(rest)?));
    }
    let who = first.to_string();
    if rest == "connects to HTTP" {
        http.insert(who.clone());
    }
    connection(who, rest)
}

fn connection(who: String, what: &str) -> Result<Step, String> {
    let (verb, object) = what.split_once(' ').unwrap_or((what, ""));
    Ok(match (verb, object) {
        ("connects", "") => Step::Connect(who, Greeting::Magic),
        ("connects", "without magic") => Step::Connect(who, Greeting::Silence),
        ("connects", "to HTTP") => Step::Connect(who, Greeting::Http),
        ("is", "closed") => Step::IsClosed(who),
        ("is", _) => match object.strip_prefix("nsqd ") {
            Some(host) => Step::Connect(who, Greeting::Nsqd(host.into())),
            None => return Err(format!("what is {object:?}?")),
        },
        (">", _) => Step::Say(who, Say::Command(command(object)?)),
        ("sends", _) => Step::Say(who, Say::Bytes(unescape(object)?)),
        ("keeps", _) => match object.strip_prefix("sending ") {
            Some(line) => Step::Say(who, Say::Keep(command(line)?)),
            None => return Err(format!("keeps what? {object:?}")),
        },
        ("says", "no more") => Step::Say(who, Say::NoMore),
        ("leaves", "") => Step::Say(who, Say::Leave),
        ("breaks", "off") => Step::Say(who, Say::BreakOff),
        ("<", _) => {
            let repeated = object.strip_suffix(" times").and_then(|rest| {
                let (answer, times) = rest.rsplit_once(", ")?;
                Some((answer, times.parse().ok()?))
            });
            let (text, times) = repeated.unwrap_or((object, 1));
            Step::Hear(who, answer(text)?, times)
        }
        _ => return Err(format!("what does it mean that {who} {what:?}?")),
    })
}

/// A line and its LF; after `IDENTIFY `, a body with its length.
fn command(line: &str) -> Result<Vec<u8>, String> {
    match line.strip_prefix("IDENTIFY ") {
        Some(body) if body.starts_with('{') => Ok(identify(body.as_bytes())),
        Some(body) => Ok(identify(&unescape(body)?)),
        None => Ok([unescape(line)?, b"\n".to_vec()].concat()),
    }
}

/// The bytes of an IDENTIFY with this body.
pub fn identify(body: &[u8]) -> Vec<u8> {
    let length = (body.len() as u32).to_be_bytes();
    [b"IDENTIFY\n", &length[..], body].concat()
}

fn answer(text: &str) -> Result<Answer, String> {
    if text.starts_with('{') {
        return Ok(Answer::Json(Json::pattern(text)?));
    }
    Ok(Answer::Text(Text::parse(text)?))
}

fn ask(request: &str, when: When, details: &[String]) -> Result<Step, String> {
    let (method, target) = request.split_once(' ').ok_or("a target is expected")?;
    let mut request = Request {
        method: method.into(),
        target: String::from_utf8(unescape(target)?).map_err(|error| error.to_string())?,
        headers: Vec::new(),
        body: Vec::new(),
    };
    let with = details.iter().take_while(|line| line.starts_with("with "));
    let with: Vec<&str> = with.map(|line| &line["with ".len()..]).collect();
    for line in &with {
        match line.strip_prefix("body ") {
            Some(body) => request.body = unescape(body)?,
            None => request.headers.push(line.to_string()),
        }
    }
    let response = response(&details[with.len()..])?;
    Ok(Step::Ask(request, when, response))
}

fn response(details: &[String]) -> Result<Response, String> {
    let (first, headers) = details.split_first().ok_or("its answer is missing")?;
    let (status, body) = first.split_once(' ').unwrap_or((first, ""));
    let mut response = Response {
        status: status.parse().map_err(|_| format!("no status: {status}"))?,
        body: answer(body)?,
        headers: Vec::new(),
        absent: Vec::new(),
        complete: false,
    };
    for line in headers {
        if let Some(header) = line.strip_prefix("header ") {
            let (name, value) = header.split_once(": ").ok_or("a header needs its value")?;
            let value = Text::parse(value)?;
            response.headers.push((name.to_ascii_lowercase(), value));
        } else if let Some(name) = line.strip_prefix("no header ") {
            response.absent.push(name.to_ascii_lowercase());
        } else if line == "no other header" {
            response.complete = true;
        } else {
            return Err(format!("not expected here: {line:?}"));
        }
    }
    Ok(response)
}

fn start(flags: &str, stays: bool, details: &[String]) -> Result<Step, String> {
    let mut file = String::new();
    for line in details {
        let line = line.strip_prefix("with file ");
        let line = line.ok_or("a line of the file is expected")?;
        file.push_str(&format!("{line}\n"));
    }
    let flags = words(flags).map(|word| unescape(&word));
    let flags = flags.map(|flag| String::from_utf8(flag?).map_err(|error| error.to_string()));
    Ok(Step::Program(Program::Start {
        flags: flags.collect::<Result<_, _>>()?,
        file,
        stays,
    }))
}

fn program(first: &str, rest: &str) -> Result<Option<Program>, String> {
    let stream = match first {
        "stdout" => Stream::Out,
        "stderr" => Stream::Err,
        "signal" => return Ok(Some(Program::Signal(rest.into()))),
        "exit" => {
            let code = rest.parse().map_err(|_| format!("no exit code: {rest}"))?;
            return Ok(Some(Program::Exit(code)));
        }
        _ => return Ok(None),
    };
    Ok(Some(match rest {
        "is empty" => Program::PrintsNothing(stream),
        _ => Program::Prints(stream, Text::parse(rest)?),
    }))
}

/// `300ms` or `2s`.
fn duration(text: &str) -> Result<Duration, String> {
    let number = |digits: &str| digits.parse().map_err(|_| format!("no duration: {text}"));
    match text.strip_suffix("ms") {
        Some(digits) => Ok(Duration::from_millis(number(digits)?)),
        None => Ok(Duration::from_secs(number(text.trim_end_matches('s'))?)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn steps_of(text: &str) -> Vec<(usize, Step)> {
        let script = Script::parse(&format!("## title\n{text}")).unwrap();
        script.conversations.into_iter().next().unwrap().steps
    }

    #[test]
    fn the_shape_of_a_file() {
        let text = "# prose\nflags: --a=1 -b\n\n## one\nwait 1s\n## two (differs)\n\n# more\n";
        let script = Script::parse(text).unwrap();
        assert_eq!(script.flags, ["--a=1", "-b"]);
        let [one, two] = &script.conversations[..] else {
            panic!("two conversations");
        };
        assert_eq!((one.title.as_str(), one.differs), ("one", false));
        assert!(matches!(one.steps[..], [(5, Step::Wait(time))] if time.as_secs() == 1));
        assert_eq!((two.title.as_str(), two.differs), ("two", true));
        assert!(two.steps.is_empty());
    }

    #[test]
    fn what_is_said() {
        for (line, bytes) in [
            ("c1 > PING", &b"PING\n"[..]),
            (r"c1 > \x20PING\r", b" PING\r\n"),
            (
                r#"c1 > IDENTIFY {"a":"\n"}"#,
                b"IDENTIFY\n\0\0\0\x0a{\"a\":\"\\n\"}",
            ),
            (r"c1 > IDENTIFY [\0]", b"IDENTIFY\n\0\0\0\x03[\0]"),
            (r"c1 sends  \x20 V1<P*2>", b"   V1PP"),
            ("c1 sends a\n  b\n  c", b"abc"),
        ] {
            let steps = steps_of(line);
            let [(2, Step::Say(_, Say::Command(said) | Say::Bytes(said)))] = &steps[..] else {
                panic!("{line} is {steps:?}");
            };
            assert_eq!(said, bytes, "{line}");
        }
    }

    #[test]
    fn questions_and_their_answers() {
        let steps = steps_of(
            "POST /a#b\nwith X: y\nwith body b\\0\n200\nno header Allow\n\
             eventually not before 900ms GET /c\n404 {\"message\":\n  \"X\"}\nheader A-B: <any>\n\
             no other header",
        );
        let [
            (2, Step::Ask(post, When::Now, done)),
            (7, Step::Ask(get, when, found)),
        ] = &steps[..]
        else {
            panic!("{steps:?}");
        };
        assert_eq!(
            (post.method.as_str(), post.target.as_str()),
            ("POST", "/a#b")
        );
        assert_eq!(
            (&post.headers[..], &post.body[..]),
            (&["X: y".into()][..], &b"b\0"[..])
        );
        assert_eq!(
            (done.status, &done.absent[..]),
            (200, &["allow".into()][..])
        );
        assert!(!done.complete && matches!(done.body, Answer::Text(_)));
        assert_eq!(get.method, "GET");
        assert!(matches!(when, When::Eventually(time) if time.as_millis() == 900));
        assert_eq!((found.status, found.headers[0].0.as_str()), (404, "a-b"));
        assert!(found.complete && matches!(found.body, Answer::Json(_)));
    }

    #[test]
    fn what_makes_no_sense_is_refused() {
        for line in [
            "GET /x",
            "GET /x\n20",
            "GET /x\nheader A: b",
            "GET /x\n200\nwith A: b",
            "PING",
            "c1 dances",
            "c1 is happy",
            "c1 < {",
            "200 OK",
            "c1 > PING\n200 OK",
            "wait long",
            "exit well",
            "run --x\n200",
        ] {
            let error = Script::parse(&format!("## title\n{line}")).unwrap_err();
            assert!(error.starts_with("line 2: "), "{line}: {error}");
        }
        assert!(Script::parse("c1 connects").is_err());
    }
}
