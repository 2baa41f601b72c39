//! Reading sites and limits again, for SIGHUP and for `tagwire reload` alike: a mistake changes nothing.

use std::io;
use std::sync::{Arc, Mutex, PoisonError};

use crate::cli;
use crate::config::Config;
use crate::limits::Limits;
use crate::sandbox::Sandbox;
use crate::site::{SiteError, Sites, check_vlans};
use crate::vlan::ids;

/// Has the workers serve these sites within these limits from now on.
type Serve = dyn Fn(&Arc<Sites>, Limits) + Send + Sync;

/// Reads what an appliance serves again, one time after the other.
pub struct Reloader {
    config: Config,
    /// What is served.
    sites: Mutex<Arc<Sites>>,
    sandbox: Sandbox,
    serve: Box<Serve>,
}

impl Reloader {
    /// For an appliance that was started with `config` and serves `sites`.
    pub fn new(
        config: Config,
        sites: Arc<Sites>,
        sandbox: Sandbox,
        serve: impl Fn(&Arc<Sites>, Limits) + Send + Sync + 'static,
    ) -> Self {
        Self { config, sites: Mutex::new(sites), sandbox, serve: Box::new(serve) }
    }

    /// Reads sites and limits and serves by them; says in the log what came of it. Takes as long as
    /// the disk does. Returns how many sites there are.
    ///
    /// # Errors
    /// One line that says what is wrong, with the file and the line of a mistake; all is served as
    /// before.
    pub fn reload(&self) -> Result<usize, String> {
        let mut sites = self.sites.lock().unwrap_or_else(PoisonError::into_inner);
        match self.read(&sites) {
            Ok((new, limits)) => {
                *sites = Arc::new(new);
                let count = sites.iter().count();
                tracing::info!(sites = count, "reloaded");
                (self.serve)(&sites, limits);
                Ok(count)
            }
            Err(error) => {
                tracing::error!(error, "not reloaded: all is served as before");
                Err(error)
            }
        }
    }

    /// Sites and limits as the configuration file has them now; without one, the same directories
    /// opened anew: they may have been replaced.
    fn read(&self, before: &Sites) -> Result<(Sites, Limits), String> {
        let old = &self.config;
        let new = cli::read_again(old)?;
        // Those that are served take a restart, so the sites must suit them as they are.
        check_vlans(&new.sites, &ids(&old.vlans)).map_err(|(_, message)| message)?;
        let sites = Sites::open(&new.sites, Some(before)).map_err(|error| self.explain(&error))?;
        let limits = new.limits;
        let rest = Config { sites: old.sites.clone(), limits: old.limits, ..new };
        if rest != *old {
            tracing::warn!("not only sites and limits have changed: the rest takes a restart");
        }
        Ok((sites, limits))
    }

    /// What is wrong, also where it is for the sandbox.
    fn explain(&self, error: &SiteError) -> String {
        match error {
            SiteError::WwwRoot(path, error)
                if error.kind() == io::ErrorKind::PermissionDenied
                    && self.sandbox.restricts_files() =>
            {
                format!(
                    "www-root {} cannot be read: {error}; it must be readable for this user, and lie \
                     in a directory that was a www-root at the start or was named by --sandbox-read: \
                     restart with that",
                    path.display()
                )
            }
            error => error.to_string(),
        }
    }
}
