//! The application on our stack: reads, checks, answers, closes as planned.

use std::collections::BTreeMap;

use bytes::{Bytes, BytesMut};
use tagwire_netstack::{CloseReason, ConnId, Instant, Recv, Stack};

use crate::rng::Rng;
use crate::scenario::{Abort, FIRST_PORT, Plan, ServerCloses, octet};

/// More is queued when less than this is.
const LOW_WATER: usize = 20_000;

#[derive(Debug)]
struct Conn {
    k: usize,
    received: usize,
    sent: usize,
    eof: bool,
    shut: bool,
    /// When the application will look at what has come.
    read_at: Option<Instant>,
}

/// Every connection's server side.
#[derive(Debug, Default)]
pub(crate) struct Server {
    conns: BTreeMap<ConnId, Conn>,
    /// Octets received by client, for those that are over.
    pub(crate) finished: BTreeMap<usize, usize>,
}

impl Server {
    pub(crate) fn next(&self) -> Option<Instant> {
        self.conns.values().filter_map(|conn| conn.read_at).min()
    }

    /// Grows with all that is received and each connection that ends.
    pub(crate) fn progress(&self) -> usize {
        let live: usize = self.conns.values().map(|conn| conn.received).sum();
        live + self.finished.values().map(|received| received + 1).sum::<usize>()
    }

    pub(crate) fn live(&self) -> usize {
        self.conns.len()
    }

    /// Handles what has happened up to now.
    pub(crate) fn run(&mut self, now: Instant, stack: &mut Stack, plans: &[Plan], rng: &mut Rng) {
        let mut touched = Vec::new();
        while let Some((id, events)) = stack.poll_event() {
            if events.accepted {
                let remote = stack.addresses(id).expect("a connection has addresses").remote;
                let k = usize::from(remote.port - FIRST_PORT);
                let conn = Conn { k, received: 0, sent: 0, eof: false, shut: false, read_at: None };
                assert!(self.conns.insert(id, conn).is_none());
            }
            let conn = self.conns.get_mut(&id).expect("no events after a release");
            if (events.readable || events.closed) && conn.read_at.is_none() {
                let pause = plans[conn.k].read_pause.as_nanos() as u64;
                conn.read_at = Some(now + std::time::Duration::from_nanos(rng.between(0, pause)));
            }
            touched.push(id);
        }
        for (&id, conn) in &mut self.conns {
            if conn.read_at.is_some_and(|at| at <= now) {
                conn.read_at = None;
                touched.push(id);
                read(stack, id, conn);
            }
        }
        touched.sort();
        touched.dedup();
        for id in touched {
            if self.act(now, stack, id, plans, rng)
                && let Some(conn) = self.conns.remove(&id)
            {
                self.finished.insert(conn.k, conn.received);
            }
        }
    }

    /// Sends and closes what is due; true when the connection was released.
    fn act(
        &mut self,
        now: Instant,
        stack: &mut Stack,
        id: ConnId,
        plans: &[Plan],
        rng: &mut Rng,
    ) -> bool {
        let Some(conn) = self.conns.get_mut(&id) else { return false };
        let plan = &plans[conn.k];
        if let Some(Abort::Server(at)) = plan.abort
            && conn.received >= at.min(plan.upload)
        {
            stack.abort(now, id);
            stack.release(now, id);
            return true;
        }
        if let Some(reason) = stack.closed(id) {
            let expected = reason == CloseReason::Finished || plan.abort.is_some();
            // The peer's TIME-WAIT is short: our last FIN, sent again, may be reset.
            let late = conn.eof && conn.shut && reason == CloseReason::Reset;
            assert!(expected || late, "client {}: closed by {reason:?}, {conn:?}", conn.k);
            if conn.read_at.is_none() {
                stack.release(now, id);
                return true;
            }
            return false;
        }
        if plan.server_closes != ServerCloses::AnswersAfterUpload || conn.eof {
            while conn.sent < plan.download && stack.notify_below(id, LOW_WATER) {
                let piece = (rng.between(1, 30_000) as usize).min(plan.download - conn.sent);
                let data: Bytes =
                    (conn.sent..conn.sent + piece).map(|at| octet(conn.k, false, at)).collect();
                stack.send(id, data).expect("an open connection");
                conn.sent += piece;
            }
        }
        let all_queued = conn.sent == plan.download;
        if all_queued && conn.eof {
            stack.release(now, id);
            return true;
        }
        if all_queued && !conn.shut && plan.server_closes == ServerCloses::AfterDownload {
            stack.shutdown(id);
            conn.shut = true;
        }
        false
    }
}

fn read(stack: &mut Stack, id: ConnId, conn: &mut Conn) {
    loop {
        let mut into = BytesMut::new();
        match stack.recv(id, &mut into) {
            Recv::Data(octets) => {
                assert_eq!(octets, into.len());
                for (index, got) in into.iter().enumerate() {
                    let at = conn.received + index;
                    assert_eq!(
                        *got,
                        octet(conn.k, true, at),
                        "client {} sent another at {at}",
                        conn.k
                    );
                }
                conn.received += octets;
            }
            Recv::Finished => {
                conn.eof = true;
                return;
            }
            Recv::Pending | Recv::Closed(_) => return,
        }
    }
}
