//! Multicast listener discovery, the listener's side (RFC 3810 6; RFC 2710 for an old querier):
//! switches that snoop forward a solicited-node group only to who says that it listens.

use std::net::Ipv6Addr;
use std::time::Duration;

use super::{Out, PURPOSE_MLD_DELAY};
use crate::entropy::Keys;
use crate::time::Instant;
use crate::wire::ipv6::ALL_ROUTERS;
use crate::wire::mld::{
    ALL_MLDV2_ROUTERS, Query, Record, RecordKind, TYPE_DONE_V1, TYPE_REPORT_V1, make_report,
    make_v1,
};

/// RFC 3810 9.1: the Robustness Variable: each piece of news is told so often.
const ROBUSTNESS: u8 = 2;
/// RFC 3810 9.11: up to this lies between the first and the second time.
const UNSOLICITED_INTERVAL: Duration = Duration::from_secs(1);
/// RFC 3810 9.12 with its defaults: how long an old querier is believed to be there.
const OLD_QUERIER: Duration = Duration::from_secs(2 * 125 + 10);
/// Sources of a query that are remembered until it is answered; of more, the whole group is.
const MAX_SOURCES: usize = 32;
/// Records of one report, so that it fits 1280 octets.
const MAX_RECORDS: usize = 50;

#[derive(Debug)]
struct Group {
    address: Ipv6Addr,
    /// How often it is still to be said that it was joined.
    news: u8,
    next_news: Instant,
    /// When a query for it is answered.
    answer: Instant,
    /// The sources that were asked for; none: the whole group.
    sources: Vec<Ipv6Addr>,
}

#[derive(Debug)]
pub(super) struct Mld {
    groups: Vec<Group>,
    /// Groups that were left: to be told once, as all of our groups are the link's.
    left: Vec<Ipv6Addr>,
    /// When a query for all groups is answered.
    general: Instant,
    old_querier_until: Option<Instant>,
    keys: Keys,
    draws: u64,
}

impl Mld {
    pub(super) fn new(keys: Keys) -> Self {
        Self {
            groups: Vec::new(),
            left: Vec::new(),
            general: Instant::NEVER,
            old_querier_until: None,
            keys,
            draws: 0,
        }
    }

    /// Up to `most`, drawn from the secret.
    fn delay(&mut self, most: Duration) -> Duration {
        self.draws += 1;
        let draw = self.keys.prf(PURPOSE_MLD_DELAY, &self.draws.to_be_bytes());
        Duration::from_nanos(draw % (most.as_nanos() as u64).max(1))
    }

    /// Listens to `groups` and to no others.
    pub(super) fn sync(&mut self, now: Instant, groups: impl Iterator<Item = Ipv6Addr>) {
        let wanted: Vec<Ipv6Addr> = groups.collect();
        let left = self.groups.extract_if(.., |group| !wanted.contains(&group.address));
        self.left.extend(left.map(|group| group.address));
        for address in wanted {
            if !self.groups.iter().any(|group| group.address == address) {
                self.left.retain(|left| *left != address);
                self.groups.push(Group {
                    address,
                    news: ROBUSTNESS,
                    next_news: now,
                    answer: Instant::NEVER,
                    sources: Vec::new(),
                });
            }
        }
    }

    /// Tells everything anew: the link may be another.
    pub(super) fn restart(&mut self, now: Instant) {
        for group in &mut self.groups {
            group.news = ROBUSTNESS;
            group.next_news = now;
        }
        self.old_querier_until = None;
    }

    /// A querier asks. Its source, its hop limit and its Router Alert have been checked.
    pub(super) fn on_query(&mut self, now: Instant, query: &Query<'_>) {
        if query.version_1 {
            self.old_querier_until = Some(now + OLD_QUERIER);
        }
        let at = now + self.delay(query.max_response);
        // RFC 3810 6.2: an answer about everything that is due earlier covers it.
        if self.general <= at {
            return;
        }
        if query.group.is_unspecified() {
            self.general = at;
            return;
        }
        let Some(group) = self.groups.iter_mut().find(|group| group.address == query.group) else {
            return;
        };
        let whole = group.answer.is_armed() && group.sources.is_empty();
        if whole || query.sources().len() == 0 {
            group.sources.clear();
        } else {
            for source in query.sources() {
                if group.sources.len() > MAX_SOURCES {
                    break;
                }
                if !group.sources.contains(&source) {
                    group.sources.push(source);
                }
            }
            if group.sources.len() > MAX_SOURCES {
                group.sources.clear();
            }
        }
        group.answer = group.answer.min(at);
    }

    pub(super) fn next_timeout(&self) -> Instant {
        let groups = self.groups.iter().map(|group| group.next_news.min(group.answer));
        groups.min().unwrap_or(Instant::NEVER).min(self.general)
    }

    /// Sends the reports that are due.
    pub(super) fn transmit(&mut self, now: Instant, source: Ipv6Addr, out: &mut Out<'_>) {
        if self.old_querier_until.is_some_and(|until| until <= now) {
            self.old_querier_until = None;
        }
        let old = self.old_querier_until.is_some();
        let mut records = Vec::new();
        for group in self.left.drain(..) {
            if old {
                out.listener(source, ALL_ROUTERS, make_v1(TYPE_DONE_V1, group));
            } else {
                let (kind, sources) = (RecordKind::ToInclude, Vec::new());
                records.push(Record { kind, group, sources });
            }
        }
        let general = self.general <= now;
        if general {
            self.general = Instant::NEVER;
        }
        for index in 0..self.groups.len() {
            let again = now + self.delay(UNSOLICITED_INTERVAL);
            let group = &mut self.groups[index];
            let address = group.address;
            let news = group.next_news <= now;
            if news {
                group.news -= 1;
                group.next_news = if group.news > 0 { again } else { Instant::NEVER };
            }
            let asked = group.answer <= now || general;
            if !asked && !news {
                continue;
            }
            let mut sources = Vec::new();
            if asked {
                group.answer = Instant::NEVER;
                sources = std::mem::take(&mut group.sources);
            }
            // RFC 3810 6.3: all sources are listened to, so also the ones asked for. News says
            // all that an answer would.
            let (kind, sources) = match (news, general || sources.is_empty()) {
                (true, _) => (RecordKind::ToExclude, Vec::new()),
                (false, true) => (RecordKind::IsExclude, Vec::new()),
                (false, false) => (RecordKind::IsInclude, sources),
            };
            records.push(Record { kind, group: address, sources });
        }
        if old {
            for Record { group, .. } in records {
                out.listener(source, group, make_v1(TYPE_REPORT_V1, group));
            }
        } else {
            for records in pack(&records) {
                out.listener(source, ALL_MLDV2_ROUTERS, make_report(records));
            }
        }
    }
}

/// Records in portions that fit a packet: sources stand in few of them, or alone.
fn pack(records: &[Record]) -> impl Iterator<Item = &[Record]> {
    records
        .chunk_by(|a, b| a.sources.is_empty() && b.sources.is_empty())
        .flat_map(|part| part.chunks(MAX_RECORDS))
}
