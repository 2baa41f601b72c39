//! The status of an appliance: what each of its workers says, put together.

use std::sync::{Arc, Mutex, PoisonError};

use futures_channel::oneshot;
use serde_json::{Map, Value};

/// Figures of each worker that are added up.
const SUMS: [&str; 7] =
    ["connections", "half_open", "time_wait", "memory", "http", "stack", "driver"];
/// What each says of each of its VLANs.
const VLANS: &str = "vlans";

#[derive(Debug)]
struct Gathering {
    parts: Vec<Option<Value>>,
    reply: Option<oneshot::Sender<Value>>,
}

/// One worker's place in an answer that is being gathered.
#[derive(Debug)]
pub struct Part {
    index: usize,
    gathering: Arc<Mutex<Gathering>>,
}

impl Part {
    /// Places for `workers`; what they say goes to `reply` once all have said it. If one of them
    /// never does, `reply` is dropped.
    pub fn for_each(workers: usize, reply: oneshot::Sender<Value>) -> impl Iterator<Item = Self> {
        let parts = (0..workers).map(|_| None).collect();
        let gathering = Arc::new(Mutex::new(Gathering { parts, reply: Some(reply) }));
        (0..workers).map(move |index| Self { index, gathering: Arc::clone(&gathering) })
    }

    /// What this worker says: an object.
    pub fn answer(self, value: Value) {
        let mut gathering = self.gathering.lock().unwrap_or_else(PoisonError::into_inner);
        gathering.parts[self.index] = Some(value);
        if gathering.parts.iter().all(Option::is_some)
            && let Some(reply) = gathering.reply.take()
        {
            let parts = gathering.parts.drain(..).flatten().collect();
            // A client that has gone does not want to know any more.
            let _ = reply.send(together(parts));
        }
    }
}

/// The first worker speaks for all; counts are sums. What each counts by itself is in `workers`.
fn together(parts: Vec<Value>) -> Value {
    let objects: Vec<Map<String, Value>> = parts
        .into_iter()
        .filter_map(|part| if let Value::Object(object) = part { Some(object) } else { None })
        .collect();
    let Some(mut all) = objects.first().cloned() else { return Value::Null };
    for other in &objects[1..] {
        add_figures(&mut all, other);
        // In the same order in each worker.
        let vlans = (all.get_mut(VLANS), other.get(VLANS));
        let (Some(Value::Array(sums)), Some(Value::Array(others))) = vlans else { continue };
        for (sum, other) in sums.iter_mut().zip(others) {
            if let (Value::Object(sum), Value::Object(other)) = (sum, other) {
                add_figures(sum, other);
            }
        }
    }
    let own = |object: Map<String, Value>| {
        let figures = object.into_iter().filter(|(name, _)| SUMS.contains(&name.as_str()));
        Value::Object(figures.collect())
    };
    all.insert("workers".to_owned(), objects.into_iter().map(own).collect());
    Value::Object(all)
}

fn add_figures(all: &mut Map<String, Value>, other: &Map<String, Value>) {
    for name in SUMS {
        if let (Some(sum), Some(more)) = (all.get_mut(name), other.get(name)) {
            add(sum, more);
        }
    }
}

/// Counters by their names, as figures.
pub(super) fn figures(counters: impl Iterator<Item = (&'static str, u64)>) -> Map<String, Value> {
    counters.map(|(name, value)| (name.to_owned(), value.into())).collect()
}

/// Adds figures to figures of the same names.
pub(super) fn add(sum: &mut Value, more: &Value) {
    match (sum, more) {
        (Value::Object(sum), Value::Object(more)) => {
            for (name, more) in more {
                if let Some(sum) = sum.get_mut(name) {
                    add(sum, more);
                }
            }
        }
        (sum, more) => {
            if let (Some(one), Some(other)) = (sum.as_u64(), more.as_u64()) {
                *sum = one.saturating_add(other).into();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn counts_are_sums_and_the_first_speaks_for_the_rest() {
        let (reply, mut answer) = oneshot::channel();
        let parts: Vec<Part> = Part::for_each(2, reply).collect();
        let say = |connections: u64, frames: u64, uptime: u64| {
            json!({
                "connections": connections, "uptime": uptime, "link_up": true,
                "stack": { "frames_in": frames, "drop_vlan": 1 },
                "vlans": [
                    { "vlan": "5", "connections": connections - 1, "neighbors": uptime },
                    { "vlan": "6", "connections": 1, "neighbors": uptime },
                ],
            })
        };
        for (part, value) in parts.into_iter().zip([say(3, 10, 7), say(4, 20, 8)]) {
            assert_eq!(answer.try_recv(), Ok(None), "not before all have spoken");
            part.answer(value);
        }
        let expected = json!({
            "connections": 7, "uptime": 7, "link_up": true,
            "stack": { "frames_in": 30, "drop_vlan": 2 },
            "vlans": [
                { "vlan": "5", "connections": 5, "neighbors": 7 },
                { "vlan": "6", "connections": 2, "neighbors": 7 },
            ],
            "workers": [
                { "connections": 3, "stack": { "frames_in": 10, "drop_vlan": 1 } },
                { "connections": 4, "stack": { "frames_in": 20, "drop_vlan": 1 } },
            ],
        });
        assert_eq!(answer.try_recv(), Ok(Some(expected)));
    }

    #[test]
    fn a_worker_that_ends_ends_the_waiting() {
        let (reply, mut answer) = oneshot::channel();
        let mut parts: Vec<Part> = Part::for_each(2, reply).collect();
        drop(parts.pop());
        for part in parts {
            part.answer(json!({}));
        }
        assert!(answer.try_recv().is_err());
    }
}
