//! nginx on the kernel's TCP, in a pod beside the appliance's and with the same files.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::Duration;

use tagwire_lab::LabProcess;

use crate::bed::{Bed, wait_until};

/// Starts it in pod `pod` and waits until it serves. `http` is put into its http block.
pub(crate) fn start(bed: &Bed, pod: usize, http: &str) -> LabProcess {
    let pod = bed.lab().pod(pod);
    pod.kernel_stack().unwrap();
    let config = bed.lab().scratch().join("nginx.conf");
    let (scratch, www) = (bed.lab().scratch().display().to_string(), bed.www());
    let www = www.display();
    let text = format!(
        "daemon off;
worker_processes 1;
user www-data;
pid {scratch}/nginx.pid;
error_log stderr crit;
events {{ worker_connections 1024; }}
http {{
    access_log off;
    keepalive_timeout 300s;
    {http}
    server {{ listen 80; listen [::]:80; root {www}; }}
}}
"
    );
    fs::write(&config, text).unwrap();
    let nginx = pod.command("nginx").arg("-c").arg(&config).capture().spawn().unwrap();
    let address = format!("http://{}/", pod.address());
    wait_until("nginx serves", Duration::from_secs(10), || {
        bed.client(&["curl", "-sS", "-m", "5", "-o", "/dev/null", &address]).status.success()
    });
    nginx
}

/// Lets its user read what lies in a directory, whatever the umask was.
pub(crate) fn open_to_all(folder: &Path) {
    for entry in fs::read_dir(folder).unwrap() {
        let entry = entry.unwrap();
        let kind = entry.file_type().unwrap();
        if kind.is_dir() {
            open_to_all(&entry.path());
        }
        if kind.is_dir() || kind.is_file() {
            let mode = if kind.is_dir() { 0o755 } else { 0o644 };
            fs::set_permissions(entry.path(), fs::Permissions::from_mode(mode)).unwrap();
        }
    }
}
