//! Tagwire: an HTTP appliance behind a VLAN tag. This crate is the web server and the appliance.
//!
//! # The way of a request
//!
//! 1. [`transport`]: octets arrive on a connection of our own TCP.
//! 2. [`conn`]: one `async fn` per connection reads a head, answers it, next.
//! 3. [`request`]: the head is parsed and framed; [`limits`] holds the bounds.
//! 4. [`target`]: the target is decoded, normalised and contained.
//! 5. [`site`]: whose it is; [`content`]: looked up in the [`cache`]; what is missing there is loaded by the [`cold`]
//!    side, a thread of its own, so that a disk that stalls never stalls a packet.
//! 6. [`encoding`]: in which form the client is sent it; [`conditional`] and [`range`]: 304 where it has
//!    that already, 206 where it wants a part.
//! 7. [`respond`]: prebuilt head lines, [`date`], [`cors`], and the cached body go to the send queue.
//! 8. [`access_log`]: what was answered is noted, where that is asked for.
//!
//! Around it: [`appliance`] starts and ends all of it, with [`privileges`] and a [`sandbox`], [`net`] joins packet loop, TCP and tasks; [`cli`], [`config`]
//! and [`vlan`] for `tagwire serve`, [`control`] for `tagwire status` ([`status`]) and `tagwire reload` ([`reload`]).
//! [`health`] is what
//! probes and supervisors are told, [`admin`] how the admin endpoint says it; [`doctor`] looks before anything runs.
#![forbid(unsafe_code)]

pub mod accept;
pub mod access_log;
pub mod admin;
pub mod appliance;
mod builtin;
pub mod cache;
pub mod chunked;
pub mod cli;
pub mod cold;
pub mod compress;
pub mod conditional;
pub mod config;
pub mod conn;
pub mod content;
pub mod control;
pub mod cors;
pub mod date;
pub mod doctor;
pub mod document;
pub mod driver;
pub mod encoding;
pub mod file;
pub mod health;
pub mod interfaces;
pub mod limits;
pub mod listing;
pub mod memory_limit;
pub mod mime;
pub mod net;
pub mod privileges;
pub mod range;
pub mod reload;
pub mod request;
pub mod respond;
pub mod sandbox;
mod shares;
pub mod site;
pub mod status;
pub mod tally;
pub mod target;
pub mod transport;
pub mod vlan;
