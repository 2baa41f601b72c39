//! The cases, by what they are about.

mod bodies;
mod conditions;
mod connections;
mod encodings;
mod fields;
mod hosts;
mod lines;
mod methods;
mod ranges;
mod targets;
mod types;

use crate::case::Case;

/// All of them.
pub(crate) fn all() -> Vec<Case> {
    [
        methods::cases(),
        lines::cases(),
        hosts::cases(),
        targets::cases(),
        types::cases(),
        ranges::cases(),
        conditions::cases(),
        encodings::cases(),
        fields::cases(),
        bodies::cases(),
        connections::cases(),
    ]
    .concat()
}
