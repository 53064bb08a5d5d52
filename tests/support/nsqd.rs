//! What an nsqd says to a lookupd, over a real socket.

use std::io::{ErrorKind, Read, Result, Write};
use std::net::{Shutdown, TcpStream};
use std::time::Duration;

use super::wait_until;

/// One session of a simulated nsqd.
pub struct Nsqd {
    stream: TcpStream,
}

impl Nsqd {
    /// Connects and sends the magic.
    pub fn connect(port: u16) -> Result<Nsqd> {
        let mut stream = TcpStream::connect(("127.0.0.1", port))?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(Duration::from_secs(10)))?;
        stream.write_all(b"  V1")?;
        Ok(Nsqd { stream })
    }

    /// How long to wait for an answer.
    pub fn set_patience(&self, patience: Duration) -> Result<()> {
        self.stream.set_read_timeout(Some(patience))
    }

    /// A session on this connection.
    pub fn over(stream: TcpStream) -> Nsqd {
        Nsqd { stream }
    }

    /// Connects and identifies as an nsqd on this host.
    pub fn identified(port: u16, host: &str) -> Result<Nsqd> {
        let mut nsqd = Nsqd::connect(port)?;
        let answer = nsqd.identify(host)?;
        assert!(answer.starts_with('{'), "IDENTIFY was answered {answer}");
        Ok(nsqd)
    }

    pub fn identify(&mut self, host: &str) -> Result<String> {
        self.stream.write_all(&identify_bytes(host))?;
        self.answer()
    }

    /// Sends one line and waits for its answer.
    pub fn command(&mut self, line: &str) -> Result<String> {
        self.send(format!("{line}\n").as_bytes())?;
        self.answer()
    }

    pub fn register(&mut self, topic: &str, channel: &str) -> Result<String> {
        self.command(format!("REGISTER {topic} {channel}").trim_end())
    }

    /// Registers, and asks again while the member has no quorum: on a busy machine that is no
    /// failure.
    pub fn registered(&mut self, topic: &str, channel: &str) {
        wait_until("the registration is committed", || {
            match self.register(topic, channel).unwrap().as_str() {
                "OK" => true,
                answer => {
                    assert!(answer.starts_with("E_UNAVAILABLE"), "{answer}");
                    false
                }
            }
        });
    }

    pub fn send(&mut self, bytes: &[u8]) -> Result<()> {
        self.stream.write_all(bytes)
    }

    /// The next answer's body.
    pub fn answer(&mut self) -> Result<String> {
        let mut length = [0; 4];
        self.stream.read_exact(&mut length)?;
        let mut body = vec![0; u32::from_be_bytes(length) as usize];
        self.stream.read_exact(&mut body)?;
        String::from_utf8(body).map_err(|error| std::io::Error::new(ErrorKind::InvalidData, error))
    }

    /// Ends the session and waits until the member has ended it too.
    pub fn leave(mut self) {
        let _ = self.stream.shutdown(Shutdown::Write);
        let mut rest = Vec::new();
        let _ = self.stream.read_to_end(&mut rest);
    }
    /// The same, though the member may be paused for a while.
    pub fn leave_patiently(self) {
        let _ = self.set_patience(Duration::from_secs(10));
        self.leave();
    }
}

/// The IDENTIFY of an nsqd on this host.
pub fn identify_bytes(host: &str) -> Vec<u8> {
    let body = format!(
        r#"{{"broadcast_address":"{host}","hostname":"{host}","tcp_port":4150,"http_port":4151,"version":"1.3.0"}}"#
    );
    let mut bytes = b"IDENTIFY\n".to_vec();
    bytes.extend_from_slice(&(body.len() as u32).to_be_bytes());
    bytes.extend_from_slice(body.as_bytes());
    bytes
}
