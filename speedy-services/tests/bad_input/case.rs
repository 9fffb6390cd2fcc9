//! A malformed request, and what becomes of it.

use std::time::Duration;

/// What to put where the path of an upload session is to stand, which the runner begins for the request and ends after it.
pub(crate) const SESSION: &str = "{session}";
/// The same session under the name of another repository.
pub(crate) const STRAY: &str = "{stray}";
/// Headers of every request that can have them.
pub(crate) const HOST: &str = "host: x\r\nconnection: close\r\n";

/// One connection to the server.
pub(crate) struct Case {
    /// What the failure of the test names.
    pub(crate) name: String,
    /// What is sent, part by part.
    pub(crate) parts: Vec<Part>,
    /// What has to come back.
    pub(crate) expected: Expected,
}

/// Something that a client does.
#[derive(Clone)]
pub(crate) enum Part {
    /// Sends bytes.
    Send(Vec<u8>),
    /// Does nothing for so long.
    Rest(Duration),
    /// Sends no more, and goes on listening.
    Shut,
    /// Goes away without listening.
    Leave,
}

/// What has to come back before the server closes the connection, which it always has to.
#[derive(Clone, Debug)]
pub(crate) enum Expected {
    /// An error of the distribution specification with this status and code.
    Error(u16, &'static str),
    /// An error of Docker Registry v1 with this status, in words that hold these.
    V1(u16, &'static str),
    /// An answer with this status, where the server can't know what is asked for, or what is asked for makes sense after all.
    Status(u16),
    /// One of these statuses.
    OneOf(&'static [u16]),
    /// Nothing, or an answer with status 400 or 408: the client may not be there to hear it.
    Nothing,
    /// Whatever it likes, such as a frame that says goodbye.
    Anything,
}

impl Case {
    pub(crate) fn new(name: impl Into<String>, request: impl AsRef<[u8]>, expected: Expected) -> Self {
        Self { name: name.into(), parts: vec![Part::Send(request.as_ref().to_vec())], expected }
    }

    /// Goes on with these parts.
    pub(crate) fn then(mut self, parts: impl IntoIterator<Item = Part>) -> Self {
        self.parts.extend(parts);
        self
    }
}

/// A request without a body that is refused with this status and code.
pub(crate) fn refused(target: &str, status: u16, code: &'static str) -> Case {
    let request = format!("{target} HTTP/1.1\r\n{HOST}\r\n");
    Case::new(target.chars().take(120).collect::<String>(), request, Expected::Error(status, code))
}

/// A request with headers and a body whose length is announced.
pub(crate) fn with_body(target: &str, headers: &str, body: impl AsRef<[u8]>) -> Vec<u8> {
    let body = body.as_ref();
    let length = body.len();
    let mut request =
        format!("{target} HTTP/1.1\r\n{HOST}{headers}content-length: {length}\r\n\r\n").into_bytes();
    request.extend_from_slice(body);
    request
}

/// A `PATCH` of a session with a body that is framed as it stands here.
pub(crate) fn framed(name: &str, headers: &str, body: impl AsRef<[u8]>, expected: Expected) -> Case {
    let mut request = format!("PATCH {SESSION} HTTP/1.1\r\n{HOST}{headers}\r\n").into_bytes();
    request.extend_from_slice(body.as_ref());
    Case::new(name, request, expected)
}
