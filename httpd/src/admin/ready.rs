//! Whether requests should be sent here, and what is missing if not.

use serde_json::Value;

use crate::health::Phase;

/// Why one that serves wants no requests.
pub const LAME_DUCK: &str = "a lame duck: new clients should go elsewhere, it is about to end";

/// What is missing by the phase alone: nobody needs to be asked then.
pub fn missing_by_phase(phase: Phase) -> Option<&'static str> {
    match phase {
        Phase::Starting => Some("starting: the workers do not run yet"),
        Phase::Serving => None,
        Phase::Draining => Some("shutting down"),
    }
}

/// What is missing by what the workers say, `status`, one line each; empty: all is there.
pub fn missing(status: &Value) -> Vec<String> {
    if let Some(error) = status["error"].as_str() {
        return vec![error.to_owned()];
    }
    let mut missing = Vec::new();
    if status["draining"] == true {
        missing.push("shutting down".to_owned());
    }
    if status["lame_duck"] == true {
        missing.push(LAME_DUCK.to_owned());
    }
    if status["link_up"] != true {
        let trouble = status["link"]["trouble"].as_str().unwrap_or("the link is down");
        missing.push(trouble.to_owned());
    }
    for address in status["address_states"].as_array().into_iter().flatten() {
        let name = address["address"].as_str().unwrap_or_default();
        let vlan = address["vlan"].as_str().unwrap_or("none");
        match address["state"].as_str() {
            Some("assigned") => {}
            Some("conflicted") => missing.push(format!(
                "another station has {name} in VLAN {vlan}: {}",
                address["by"].as_str().unwrap_or_default()
            )),
            _ => missing.push(format!("{name} in VLAN {vlan} is being probed for")),
        }
    }
    missing
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn each_reason_is_named() {
        let fine = json!({
            "link_up": true, "draining": false, "lame_duck": false,
            "address_states": [{ "address": "10.0.0.5", "vlan": null, "state": "assigned" }],
        });
        assert_eq!(missing(&fine), Vec::<String>::new());
        let mut down = fine.clone();
        down["link_up"] = false.into();
        down["link"] = json!({ "trouble": "macvlan0 is gone" });
        down["draining"] = true.into();
        down["lame_duck"] = true.into();
        down["address_states"] = json!([
            { "address": "10.0.0.5", "vlan": "7", "state": "tentative" },
            { "address": "fd00::5", "vlan": null, "state": "conflicted", "by": "02:00:00:00:00:09" },
        ]);
        assert_eq!(
            missing(&down),
            [
                "shutting down",
                LAME_DUCK,
                "macvlan0 is gone",
                "10.0.0.5 in VLAN 7 is being probed for",
                "another station has fd00::5 in VLAN none: 02:00:00:00:00:09",
            ]
        );
        let silent = json!({ "error": "the worker does not answer" });
        assert_eq!(missing(&silent), ["the worker does not answer"]);
    }

    #[test]
    fn only_who_serves_is_asked() {
        assert!(missing_by_phase(Phase::Starting).is_some());
        assert_eq!(missing_by_phase(Phase::Serving), None);
        assert_eq!(missing_by_phase(Phase::Draining), Some("shutting down"));
    }
}
