//! Tells a supervisor how the process fares (sd_notify(3)), and sees to it that workers are asked
//! whether they turn. Without `NOTIFY_SOCKET` nobody is told.

use std::env;
use std::ffi::OsStr;
use std::fmt::Write;
use std::io;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::sync::Arc;
use std::time::Duration;

use sd_notify::NotifyState;
use tokio::sync::mpsc;
use tokio::time::MissedTickBehavior;

use super::control::Appliance;
use crate::health::{BEAT, Health, Notice, Phase};

/// The supervisor, if there is one.
#[derive(Debug)]
pub struct Supervisor {
    notices: mpsc::UnboundedReceiver<Notice>,
    socket: Option<UnixDatagram>,
    watchdog: Option<Duration>,
}

impl Supervisor {
    /// Connects to whom the environment names, and will tell it these. The sandbox forbids it later.
    pub fn connect(notices: mpsc::UnboundedReceiver<Notice>) -> Self {
        let socket = env::var_os("NOTIFY_SOCKET").and_then(|name| {
            let failed = |error: &io::Error| {
                tracing::warn!(%error, ?name, "the supervisor is not told anything");
            };
            connect(&name).inspect_err(failed).ok()
        });
        let watchdog = sd_notify::watchdog_enabled().filter(|_| socket.is_some());
        Self { notices, socket, watchdog }
    }

    /// Runs until it is dropped. `probed`: others ask whether the workers turn.
    pub(super) async fn run(
        mut self,
        appliance: Arc<dyn Appliance>,
        health: Arc<Health>,
        probed: bool,
    ) {
        // Half of what it waits (sd_watchdog_enabled(3)).
        let every = self.watchdog.map_or(BEAT, |time| BEAT.min(time / 2));
        let mut ticks = tokio::time::interval(every.max(Duration::from_millis(1)));
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                // Health lives as long as the sender in it.
                Some(notice) = self.notices.recv() => self.tell(&states(notice)),
                _ = ticks.tick(), if probed || self.watchdog.is_some() => {
                    if health.phase() != Phase::Starting {
                        appliance.beat();
                    }
                    if self.watchdog.is_some() && health.stuck().is_empty() {
                        self.tell(&[NotifyState::Watchdog]);
                    }
                }
            }
        }
    }

    fn tell(&self, states: &[NotifyState<'_>]) {
        let Some(socket) = &self.socket else { return };
        let mut text = String::new();
        for state in states {
            // Writing into a string cannot fail.
            let _ = writeln!(text, "{state}");
        }
        if let Err(error) = socket.send(text.as_bytes()) {
            tracing::debug!(%error, "the supervisor is not told");
        }
    }
}

/// A path, or behind an @ a name in the abstract namespace (sd_notify(3)).
fn connect(name: &OsStr) -> io::Result<UnixDatagram> {
    let address = match name.as_bytes() {
        [b'@', name @ ..] => SocketAddr::from_abstract_name(name)?,
        _ => SocketAddr::from_pathname(name)?,
    };
    let socket = UnixDatagram::unbound()?;
    socket.connect_addr(&address)?;
    socket.set_nonblocking(true)?;
    Ok(socket)
}

fn states(notice: Notice) -> Vec<NotifyState<'static>> {
    match notice {
        Notice::Ready => vec![NotifyState::Ready],
        // systemd wants to know when, lest it take an older READY for the end of it.
        Notice::Reloading => {
            let time = NotifyState::monotonic_usec_now().ok();
            std::iter::once(NotifyState::Reloading).chain(time).collect()
        }
        Notice::Stopping => vec![NotifyState::Stopping],
    }
}

/// For tests that nobody supervises.
#[cfg(test)]
pub(crate) fn none() -> (Arc<Health>, Supervisor) {
    let (health, notices) = Health::new(1);
    (health, Supervisor { notices, socket: None, watchdog: None })
}
