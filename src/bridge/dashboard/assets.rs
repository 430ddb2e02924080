//! Style and scripts, built into the program. Their URLs hold a part of their hash, so browsers keep them for good and
//! never mix those of two versions.

use std::sync::LazyLock;

use axum::{
    extract::Path,
    http::header,
    response::{IntoResponse, Response},
};
use sha2::{Digest as _, Sha256};

use super::error::PageError;

const CSS: &str = "text/css; charset=utf-8";
const SCRIPT: &str = "text/javascript; charset=utf-8";
const SVG: &str = "image/svg+xml";

/// Each file with its type.
const FILES: [(&str, &str, &str); 5] = [
    ("dashboard.css", CSS, include_str!("assets/dashboard.css")),
    ("charts.css", CSS, include_str!("assets/charts.css")),
    ("dashboard.js", SCRIPT, include_str!("assets/dashboard.js")),
    ("live.js", SCRIPT, include_str!("assets/live.js")),
    ("icon.svg", SVG, include_str!("assets/icon.svg")),
];

struct Asset {
    name: &'static str,
    /// The name with a part of the content's hash in it.
    hashed: String,
    kind: &'static str,
    content: &'static str,
}

static ASSETS: LazyLock<Vec<Asset>> = LazyLock::new(|| {
    let asset = |(name, kind, content): &(&'static str, &'static str, &'static str)| {
        let hash = hex::encode(&Sha256::digest(content.as_bytes())[..6]);
        let (stem, extension) = name.rsplit_once('.').unwrap_or((name, ""));
        Asset { name, hashed: format!("{stem}.{hash}.{extension}"), kind, content }
    };
    FILES.iter().map(asset).collect()
});

/// Where a file is to be fetched.
pub(super) fn url(name: &str) -> String {
    let asset = ASSETS.iter().find(|asset| asset.name == name).expect("templates name files that are there");
    format!("/dashboard/assets/{}", asset.hashed)
}

/// `GET /dashboard/assets/{name}`
pub(super) async fn asset(Path(name): Path<String>) -> Response {
    match ASSETS.iter().find(|asset| asset.hashed == name) {
        Some(asset) => {
            let kept =
                [(header::CONTENT_TYPE, asset.kind), (header::CACHE_CONTROL, "public, max-age=31536000, immutable")];
            (kept, asset.content).into_response()
        }
        None => PageError::NotFound.into_response(),
    }
}
