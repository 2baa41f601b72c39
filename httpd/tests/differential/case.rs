//! What a case is.

/// What one connection sends. `{etag}` in it becomes the entity tag that the server has given to
/// `/letters`.
#[derive(Debug, Clone)]
pub(crate) struct Case {
    pub(crate) name: String,
    /// Sent one after the other, each once something has been answered to the one before.
    pub(crate) parts: Vec<Vec<u8>>,
    /// The answers that are waited for before the connection is asked whether it stays.
    pub(crate) answers: Vec<Shape>,
}

/// Whether an answer has a body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Shape {
    /// As its fields say.
    Framed,
    /// The request was a HEAD.
    HeadOnly,
}

impl Case {
    /// A request that is answered once.
    pub(crate) fn new(name: impl Into<String>, request: impl Into<Vec<u8>>) -> Self {
        let request = request.into();
        let head = request.starts_with(b"HEAD ");
        let shape = if head { Shape::HeadOnly } else { Shape::Framed };
        Self { name: name.into(), parts: vec![request], answers: vec![shape] }
    }

    /// Something that at least one of the two waits to hear more of.
    pub(crate) fn unfinished(mut self) -> Self {
        self.answers.clear();
        self
    }

    /// Requests that are answered so many times.
    pub(crate) fn answered(mut self, answers: &[Shape]) -> Self {
        self.answers = answers.to_vec();
        self
    }

    /// More of it, sent once something was answered.
    pub(crate) fn then(mut self, part: impl Into<Vec<u8>>) -> Self {
        self.parts.push(part.into());
        self
    }
}

/// A GET of `/letters` with these lines in its head.
pub(crate) fn with(lines: &str) -> String {
    format!("GET /letters HTTP/1.1\r\nHost: tagwire\r\n{lines}\r\n")
}
