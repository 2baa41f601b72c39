//! What clients send and nobody wants: bodies of requests, and what comes behind the last answer.

use bytes::BytesMut;
use tagwire_core::counters::add;

use super::{End, Session, consume};
use crate::chunked::{BadBody, Chunked};
use crate::limits::{BODY_TIMEOUT, LINGER_OCTETS, LINGER_TIMEOUT};
use crate::request;
use crate::transport::{Transport, TransportError};

/// Reads the body of a request past.
pub(super) async fn throw_away<T: Transport>(
    session: &mut Session<T>,
    body: request::Body,
) -> Result<(), End> {
    session.transport.set_deadline(Some(BODY_TIMEOUT));
    let mut left = match body {
        request::Body::Length(octets) => Left::Octets(octets),
        request::Body::Chunked => Left::Chunks(Chunked::default()),
    };
    loop {
        // Where the next request would begin is not known: nothing more is answered.
        let here = left.take(&session.input).map_err(|BadBody| {
            add(&session.content.tally.body_refused, 1);
            End::Linger
        })?;
        consume(&mut session.input, here);
        if left.is_over() {
            return Ok(());
        }
        read_more(session).await?;
    }
}

/// Reads more of a body.
pub(super) async fn read_more<T: Transport>(session: &mut Session<T>) -> Result<(), End> {
    let Session { transport, input, content, .. } = session;
    match transport.read(input).await {
        Ok(0) => Err(End::Close),
        Ok(_) => Ok(()),
        Err(TransportError::TimedOut) => {
            add(&content.tally.body_timeout, 1);
            Err(End::Linger)
        }
        Err(TransportError::Draining) => Err(End::Linger),
        Err(TransportError::Closed) => Err(End::Abort),
    }
}

/// What is still to come of a body.
enum Left {
    Octets(u32),
    Chunks(Chunked),
}

impl Left {
    fn take(&mut self, input: &[u8]) -> Result<usize, BadBody> {
        match self {
            Self::Octets(octets) => {
                let here = (*octets).min(u32::try_from(input.len()).unwrap_or(u32::MAX));
                *octets -= here;
                Ok(here as usize)
            }
            Self::Chunks(chunked) => chunked.take(input),
        }
    }

    fn is_over(&self) -> bool {
        match self {
            Self::Octets(octets) => *octets == 0,
            Self::Chunks(chunked) => chunked.is_over(),
        }
    }
}

/// Takes what the peer still sends, so that no reset destroys the answer (RFC 9112 9.6).
pub(super) async fn linger<T: Transport>(transport: &mut T, input: &mut BytesMut) {
    transport.set_deadline(Some(LINGER_TIMEOUT));
    let mut taken = 0;
    while taken < LINGER_OCTETS {
        input.clear();
        match transport.read(input).await {
            Ok(0) | Err(_) => return,
            Ok(octets) => taken += octets,
        }
    }
}
