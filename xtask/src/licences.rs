//! Licences: every dependency must have one that goes with MIT OR Apache-2.0.
//!
//! Works without a network and without any tool. Not here: security advisories, which `cargo deny`
//! checks where it is installed (`deny.toml` has the same list).

use serde_json::Value;

use crate::step;

/// Licences that a dependency may have.
const ALLOWED: &[&str] = &[
    "MIT",
    "Apache-2.0",
    "Apache-2.0 WITH LLVM-exception",
    "BSD-2-Clause",
    "BSD-3-Clause",
    "ISC",
    "Zlib",
    "Unicode-3.0",
    "CDLA-Permissive-2.0",
    "BSL-1.0",
    "Unlicense",
    "0BSD",
];

/// Checks the licence of every dependency.
pub(crate) fn check() -> Result<(), Box<dyn std::error::Error>> {
    step::say("\n==> licences of dependencies");
    let output = step::cargo(["metadata", "--format-version", "1"]).output()?;
    if !output.status.success() {
        return Err(String::from_utf8_lossy(&output.stderr).into_owned().into());
    }
    let metadata: Value = serde_json::from_slice(&output.stdout)?;
    let packages = metadata["packages"].as_array().ok_or("cargo metadata has no packages")?;
    let refused: Vec<_> = packages
        .iter()
        .map(|package| {
            let text = |field: &str| package[field].as_str().unwrap_or_default().to_owned();
            (text("name"), text("license"))
        })
        .filter(|(_, licence)| !allowed(licence))
        .map(|(name, licence)| format!("{name}: `{licence}`"))
        .collect();
    if !refused.is_empty() {
        return Err(format!(
            "dependencies with a licence that is not allowed (see xtask/src/licences.rs): {}",
            refused.join(", ")
        )
        .into());
    }
    step::say(&format!("{} packages, all allowed", packages.len()));
    Ok(())
}

/// Whether an SPDX expression (or the older form with slashes) can be met with the allowed ones.
fn allowed(expression: &str) -> bool {
    let expression = expression.replace(['(', ')'], "").replace('/', " OR ");
    // `AND` binds tighter in no expression that occurs here; every part of it must be met.
    expression.split(" AND ").all(|all| all.split(" OR ").any(|one| ALLOWED.contains(&one.trim())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_of_several_is_enough_and_all_of_a_conjunction_are_needed() {
        assert!(allowed("MIT OR Apache-2.0"));
        assert!(allowed("GPL-3.0/MIT"));
        assert!(allowed("(MIT OR Apache-2.0) AND Unicode-3.0"));
        assert!(!allowed("MIT AND GPL-3.0"));
        assert!(!allowed(""));
    }
}
