//! Reading the sites again, for SIGHUP and for `tagwire reload` alike: a mistake changes nothing.

use std::sync::{Arc, Mutex, PoisonError};

use crate::cli;
use crate::config::Config;
use crate::site::Sites;

/// Has the workers serve these sites from now on.
type Serve = dyn Fn(&Arc<Sites>) + Send + Sync;

/// Reads the sites of an appliance again, one time after the other.
pub struct Reloader {
    config: Config,
    /// What is served.
    sites: Mutex<Arc<Sites>>,
    serve: Box<Serve>,
}

impl Reloader {
    /// For an appliance that was started with `config` and serves `sites`.
    pub fn new(
        config: Config,
        sites: Arc<Sites>,
        serve: impl Fn(&Arc<Sites>) + Send + Sync + 'static,
    ) -> Self {
        Self { config, sites: Mutex::new(sites), serve: Box::new(serve) }
    }

    /// Reads the sites and serves them; says in the log what came of it. Takes as long as the
    /// disk does. Returns how many there are.
    ///
    /// # Errors
    /// One line that says what is wrong, with the file and the line of a mistake; all is served as
    /// before.
    pub fn reload(&self) -> Result<usize, String> {
        let mut sites = self.sites.lock().unwrap_or_else(PoisonError::into_inner);
        match self.read(&sites) {
            Ok(new) => {
                *sites = Arc::new(new);
                let count = sites.iter().count();
                tracing::info!(sites = count, "reloaded");
                (self.serve)(&sites);
                Ok(count)
            }
            Err(error) => {
                tracing::error!(error, "not reloaded: all is served as before");
                Err(error)
            }
        }
    }

    /// The sites as the configuration file has them now, or, without one, the same directories
    /// opened anew: they may have been replaced.
    fn read(&self, before: &Sites) -> Result<Sites, String> {
        let config = &self.config;
        let settings = match &config.file {
            Some(file) => cli::read_sites(file, config.www_root.as_deref())?,
            None => config.sites.clone(),
        };
        Sites::open(&settings, Some(before)).map_err(|error| error.to_string())
    }
}
