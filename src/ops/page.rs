//! The dashboard: one self-contained page. Nothing comes in; HTML and the policy that a browser holds it to go out.
//!
//! The policy allows the page's own script and style by their digests, and requests to its own origin: nothing else
//! runs or loads, whatever a venue's words contain.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

/// The page.
pub const HTML: &str = include_str!("page.html");

/// The `Content-Security-Policy` of the page.
pub fn content_security_policy() -> String {
    let script = digest(between(HTML, "<script>", "</script>"));
    let style = digest(between(HTML, "<style>", "</style>"));
    format!(
        "default-src 'none'; script-src 'sha256-{script}'; style-src 'sha256-{style}'; \
         connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )
}

fn digest(text: &str) -> String {
    STANDARD.encode(ring::digest::digest(&ring::digest::SHA256, text.as_bytes()))
}

/// What stands between the first `open` and the `close` after it; empty when they are missing.
fn between<'a>(text: &'a str, open: &str, close: &str) -> &'a str {
    let Some((_, rest)) = text.split_once(open) else { return "" };
    rest.split_once(close).map_or("", |(inner, _)| inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn script_and_style_are_found() {
        assert!(between(HTML, "<script>", "</script>").contains("poll();"));
        assert!(between(HTML, "<style>", "</style>").contains(":root"));
        // One of each: the policy names no other.
        assert_eq!(HTML.matches("<script").count(), 1);
        assert_eq!(HTML.matches("<style").count(), 1);
    }

    #[test]
    fn nothing_is_loaded_and_nothing_is_parsed_as_markup() {
        for word in ["http://", "https://", "innerHTML", "outerHTML", "insertAdjacent", "eval("] {
            assert!(!HTML.contains(word), "{word}");
        }
        // The policy forbids style attributes.
        assert!(!HTML.contains(" style="));
    }
}
