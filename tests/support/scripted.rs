//! An HTTP server that answers as a test tells it.

use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;

/// What is answered to a method and a target: a status and a body.
pub type Script = dyn Fn(&str, &str) -> (u16, String) + Send + Sync;

/// Starts one, for as long as the test runs; its port.
pub fn serve(script: impl Fn(&str, &str) -> (u16, String) + Send + Sync + 'static) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let script: Arc<Script> = Arc::new(script);
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let script = Arc::clone(&script);
            // Whoever asks may go away at any time.
            std::thread::spawn(move || answer(&stream.ok()?, &*script).ok());
        }
    });
    port
}

fn answer(stream: &TcpStream, script: &Script) -> std::io::Result<()> {
    let mut lines = BufReader::new(stream).lines();
    let first = lines.next().unwrap_or(Ok(String::new()))?;
    let mut words = first.split(' ');
    let (method, target) = (words.next().unwrap_or(""), words.next().unwrap_or(""));
    for line in lines {
        if line?.is_empty() {
            break;
        }
    }
    let (status, body) = script(method, target);
    let mut stream = stream;
    write!(
        stream,
        "HTTP/1.1 {status} X\r\nLocation: /elsewhere\r\nContent-Length: {}\r\n\
         Connection: close\r\n\r\n{body}",
        body.len()
    )
}
