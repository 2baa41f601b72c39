//! The admin endpoint: `/livez`, `/readyz` and `/metrics` over HTTP on the kernel's TCP, for probes
//! and for Prometheus.
//!
//! It knows no user and is for a network of its own, the pod's eth0 say. What a client can take is
//! bounded all the same: connections, octets of a head, and time, each of which is for one
//! request. Whoever asks while the status is being gathered has the same answer, so that no number
//! of clients asks more of the workers than one that asks again and again.

use std::io;
use std::iter;
use std::net::{SocketAddr, TcpListener as StdListener};
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::Router;
use axum::extract::State;
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE};
use axum::http::{HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use serde_json::{Value, json};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Mutex, Semaphore};
use tokio::time::timeout;

use super::ColdError;
use super::control::{Appliance, Inside, gather};
use super::preload::PreloadStats;
use super::runtime::{aside, spawn};
use crate::admin::{metrics, ready};
use crate::health::{Health, Phase};

/// Connections at one time: probes and scrapers are few.
const CLIENTS: usize = 64;
/// Octets of a request's head, of which hyper takes no less.
const MAX_HEAD: usize = 8 * 1024;
/// Header fields of a request.
const MAX_FIELDS: usize = 64;
/// How long a head may take.
const HEAD_TIME: Duration = Duration::from_secs(3);
/// How long a connection may take in all: that, the gathering, and the answer.
const CONNECTION_TIME: Duration = Duration::from_secs(10);
/// How long a disk may take to say whether www-root can be read.
const DISK_TIME: Duration = Duration::from_secs(1);
/// Between two tries when the kernel gives no connection.
const RETRY: Duration = Duration::from_secs(1);

/// The socket, listening.
pub struct AdminListener(StdListener);

impl AdminListener {
    /// Binds it.
    ///
    /// # Errors
    /// The address is not here, or the port is another's.
    pub fn bind(address: SocketAddr) -> Result<Self, ColdError> {
        let bind = || {
            let socket = StdListener::bind(address)?;
            socket.set_nonblocking(true)?;
            Ok(Self(socket))
        };
        bind().map_err(|error| ColdError::Admin(address, error))
    }
}

/// What the pages are made of.
pub(super) struct Admin {
    pub(super) appliance: Arc<dyn Appliance>,
    pub(super) health: Arc<Health>,
    pub(super) inside: Arc<Inside>,
    pub(super) status: Shared<Arc<Value>>,
    /// Taken while a disk is asked for www-root: a disk that does not answer is asked once.
    pub(super) disk: Arc<Semaphore>,
    /// The www-root that cannot be read, if there is one.
    pub(super) unreadable: Shared<Option<String>>,
}

/// An answer that all share who ask while it is sought, with when that began.
#[derive(Default)]
pub(super) struct Shared<T>(Mutex<Option<(Instant, T)>>);

impl<T: Clone> Shared<T> {
    /// What `seek` finds, which is given what was found before: sought after this is called; who else waits for it gets
    /// the same.
    async fn get(&self, seek: impl AsyncFnOnce(Option<&T>) -> T) -> T {
        let asked = Instant::now();
        let mut last = self.0.lock().await;
        if let Some((since, found)) = &*last
            && *since >= asked
        {
            return found.clone();
        }
        let since = Instant::now();
        let found = seek(last.as_ref().map(|(_, found)| found)).await;
        *last = Some((since, found.clone()));
        found
    }
}

impl Admin {
    /// The status as it is after this is called.
    async fn status(&self) -> Arc<Value> {
        let gather =
            async |_: Option<&_>| Arc::new(gather(self.appliance.as_ref(), &self.inside).await);
        self.status.get(gather).await
    }

    /// What keeps requests away from here, one line each.
    async fn missing(&self) -> Vec<String> {
        let phase = self.health.phase();
        if let Some(missing) = ready::missing_by_phase(phase) {
            let preloading = self.inside.preload.stats().filter(|_| phase == Phase::Starting);
            let preloading = preloading.as_ref().and_then(PreloadStats::missing);
            let lame_duck = phase == Phase::Starting && self.health.is_lame_duck();
            let lame_duck = lame_duck.then(|| ready::LAME_DUCK.to_owned());
            let first = preloading.unwrap_or_else(|| missing.to_owned());
            return iter::once(first).chain(lame_duck).collect();
        }
        let mut missing = ready::missing(&*self.status().await);
        missing.extend(self.unreadable().await);
        missing
    }

    /// The www-root that cannot be read, if there is one, after this is called. A change of that is an event, and one
    /// line of the log.
    async fn unreadable(&self) -> Option<String> {
        let look = async |before: Option<&Option<String>>| {
            let found = self.look().await;
            match &found {
                same if Some(same) == before => {}
                Some(why) => tracing::warn!("not ready: {why}"),
                None if before.is_some() => tracing::info!("www-root can be read again"),
                None => {}
            }
            found
        };
        self.unreadable.get(look).await
    }

    async fn look(&self) -> Option<String> {
        let unanswered = || Some("the disk of www-root does not answer".to_owned());
        // A disk that has not answered one before is asked no second time meanwhile.
        let turn = timeout(DISK_TIME, Arc::clone(&self.disk).acquire_owned()).await;
        let Ok(Ok(turn)) = turn else { return unanswered() };
        let sites = self.appliance.sites();
        let look = aside(move || {
            let unreadable = sites.iter().find_map(|site| {
                let error = site.root.check().err()?;
                Some(format!("www-root {}: {error}", site.settings.www_root.display()))
            });
            drop(turn);
            unreadable
        });
        match timeout(DISK_TIME, look).await {
            Ok(found) => found.flatten(),
            Err(_) => unanswered(),
        }
    }
}

/// Answers clients until it is dropped.
pub(super) async fn serve(listener: AdminListener, admin: Arc<Admin>) {
    let listener = match TcpListener::from_std(listener.0) {
        Ok(listener) => listener,
        Err(error) => {
            tracing::error!(%error, "the admin endpoint does not work");
            return;
        }
    };
    let pages = Router::new()
        .route("/livez", get(livez))
        .route("/readyz", get(readyz))
        .route("/metrics", get(metrics_page))
        .with_state(admin);
    let places = Arc::new(Semaphore::new(CLIENTS));
    loop {
        // The semaphore is never closed.
        let Ok(place) = Arc::clone(&places).acquire_owned().await else { return };
        match listener.accept().await {
            Ok((client, _)) => {
                let pages = pages.clone();
                spawn(async move {
                    answer(client, pages).await;
                    drop(place);
                });
            }
            // The client has gone again.
            Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => {}
            Err(error) => {
                tracing::warn!(%error, "the admin endpoint takes no client");
                // Out of descriptors, most likely: not in a busy loop.
                tokio::time::sleep(RETRY).await;
            }
        }
    }
}

async fn answer(client: TcpStream, pages: Router) {
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIME)
        .max_buf_size(MAX_HEAD)
        .max_headers(MAX_FIELDS)
        .keep_alive(false)
        .serve_connection(TokioIo::new(client), TowerToHyperService::new(pages));
    match timeout(CONNECTION_TIME, connection).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => tracing::debug!(%error, "a client of the admin endpoint went away"),
        Err(_) => tracing::debug!("a client of the admin endpoint took too long"),
    }
}

async fn livez(State(admin): State<Arc<Admin>>) -> Response {
    let stuck = admin.health.stuck();
    if stuck.is_empty() {
        return page(StatusCode::OK, &json!({ "live": true }));
    }
    let say = |(worker, time): &(usize, Duration)| {
        format!("worker {worker} has not turned for {} s", time.as_secs())
    };
    let stuck: Vec<String> = stuck.iter().map(say).collect();
    page(StatusCode::SERVICE_UNAVAILABLE, &json!({ "live": false, "stuck": stuck }))
}

async fn readyz(State(admin): State<Arc<Admin>>) -> Response {
    let missing = admin.missing().await;
    if missing.is_empty() {
        return page(StatusCode::OK, &json!({ "ready": true }));
    }
    page(StatusCode::SERVICE_UNAVAILABLE, &json!({ "ready": false, "missing": missing }))
}

async fn metrics_page(State(admin): State<Arc<Admin>>) -> Response {
    let text = metrics::text(&*admin.status().await);
    let fields = [
        (CONTENT_TYPE, HeaderValue::from_static(metrics::MEDIA_TYPE)),
        (CACHE_CONTROL, HeaderValue::from_static("no-store")),
    ];
    (fields, text).into_response()
}

fn page(status: StatusCode, value: &Value) -> Response {
    let fields = [
        (CONTENT_TYPE, HeaderValue::from_static("application/json")),
        (CACHE_CONTROL, HeaderValue::from_static("no-store")),
    ];
    (status, fields, format!("{value}\n")).into_response()
}

#[cfg(test)]
mod tests {
    use std::pin::pin;

    use futures_channel::oneshot;
    use futures_lite::future::poll_once;

    use super::super::watch::Watch;
    use super::*;
    use crate::cache::Cache;
    use crate::site::Sites;

    /// Workers that answer when the test lets them.
    #[derive(Default)]
    struct Workers(std::sync::Mutex<Vec<oneshot::Sender<Value>>>);

    impl Workers {
        /// The only question that is open.
        fn answer(&self, count: u64) {
            let mut asked = self.0.lock().unwrap();
            assert_eq!(asked.len(), 1);
            asked.remove(0).send(json!({ "connections": count })).unwrap();
        }

        fn are_asked(&self) -> bool {
            !self.0.lock().unwrap().is_empty()
        }
    }

    impl Appliance for Workers {
        fn status(&self, reply: oneshot::Sender<Value>) {
            self.0.lock().unwrap().push(reply);
        }

        fn reload(&self, _: oneshot::Sender<Result<usize, String>>) {}

        fn lame_duck(&self, _: bool) -> Result<(), &'static str> {
            Ok(())
        }

        fn is_lame_duck(&self) -> bool {
            false
        }

        fn sites(&self) -> Arc<Sites> {
            Arc::new(Sites::open(&[], None).unwrap())
        }

        fn beat(&self) {}
    }

    fn admin() -> (Arc<Workers>, Admin) {
        let workers = Arc::new(Workers::default());
        let cache = Arc::new(Cache::new(0));
        let watch = Watch::new(false, Arc::clone(&cache));
        let admin = Admin {
            appliance: Arc::clone(&workers) as _,
            health: Health::new(1).0,
            inside: Arc::new(Inside { cache, watch, preload: Arc::default() }),
            status: Shared::default(),
            disk: Arc::new(Semaphore::new(1)),
            unreadable: Shared::default(),
        };
        (workers, admin)
    }

    /// Workers are asked one time after another: whoever comes while they are being asked waits for the
    /// next time, and all who wait share it. Nobody is told what was before he asked.
    #[test]
    fn who_asks_at_the_same_time_has_the_same_answer_and_none_that_is_older() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        runtime.block_on(async {
            let (workers, admin) = admin();
            let mut first = pin!(admin.status());
            assert!(poll_once(&mut first).await.is_none());
            // These come while the first one's answer is under way.
            let mut crowd: Vec<_> = (0..50).map(|_| Box::pin(admin.status())).collect();
            for scrape in &mut crowd {
                assert!(poll_once(scrape).await.is_none());
            }
            workers.answer(1);
            assert_eq!(first.await["connections"], 1);
            assert!(!workers.are_asked());
            let mut shared = Vec::new();
            assert!(poll_once(&mut crowd[0]).await.is_none());
            workers.answer(2);
            for scrape in crowd {
                shared.push(scrape.await);
            }
            assert!(!workers.are_asked(), "once for all of them");
            assert_eq!(shared[0]["connections"], 2);
            assert!(shared.iter().all(|status| Arc::ptr_eq(status, &shared[0])));
            // Who comes when all is answered begins anew.
            let mut last = pin!(admin.status());
            assert!(poll_once(&mut last).await.is_none());
            workers.answer(3);
            assert_eq!(last.await["connections"], 3);
        });
    }

    /// Who goes away while he waits takes nobody's answer along.
    #[test]
    fn a_scrape_that_is_given_up_leaves_the_others_theirs() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        runtime.block_on(async {
            let (workers, admin) = admin();
            let mut impatient = Box::pin(admin.status());
            assert!(poll_once(&mut impatient).await.is_none());
            let mut patient = pin!(admin.status());
            assert!(poll_once(&mut patient).await.is_none());
            drop(impatient);
            workers.0.lock().unwrap().clear();
            assert!(poll_once(&mut patient).await.is_none());
            workers.answer(4);
            assert_eq!(patient.await["connections"], 4);
        });
    }
}
