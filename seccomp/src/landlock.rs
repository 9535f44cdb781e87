//! Landlock: no right on any file, no TCP port, no signal and no abstract socket outside.

use ::landlock::{ABI, Access, AccessFs, AccessNet, Ruleset, RulesetAttr, RulesetStatus, Scope};

/// Restricts this thread with an empty rule set of the newest kind that the kernel knows (up to ABI 6, the
/// last that adds anything for a process without files).
///
/// # Errors
/// A sentence, where the kernel has no Landlock or refuses.
pub fn restrict() -> Result<(), String> {
    let status = Ruleset::default()
        .handle_access(AccessFs::from_all(ABI::V6))
        .and_then(|ruleset| ruleset.handle_access(AccessNet::from_all(ABI::V6)))
        .and_then(|ruleset| ruleset.scope(Scope::from_all(ABI::V6)))
        .and_then(Ruleset::create)
        .and_then(|ruleset| ruleset.restrict_self())
        .map_err(|error| error.to_string())?;
    match status.ruleset {
        RulesetStatus::NotEnforced => {
            Err("this kernel has no Landlock, or it is not enabled (lsm=landlock)".into())
        }
        RulesetStatus::PartiallyEnforced | RulesetStatus::FullyEnforced => Ok(()),
    }
}
