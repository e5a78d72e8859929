//! Style and script, in the program itself, under names that change with what is in them.

use std::sync::LazyLock;

use axum::{
    extract::Path,
    http::{StatusCode, header},
    response::{IntoResponse, Response},
};

use super::answer;

/// An asset.
pub(crate) struct Asset {
    /// Its name, with a hash of it.
    pub(crate) name: String,
    kind: &'static str,
    text: &'static str,
}

impl Asset {
    fn new(stem: &str, ending: &str, kind: &'static str, text: &'static str) -> Self {
        let mut hash = 0xcbf2_9ce4_8422_2325_u64;
        for byte in text.bytes() {
            hash = (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
        }
        Self { name: format!("{stem}-{hash:016x}.{ending}"), kind, text }
    }
}

pub(crate) static STYLE: LazyLock<Asset> =
    LazyLock::new(|| Asset::new("style", "css", "text/css; charset=utf-8", include_str!("assets/style.css")));
pub(crate) static SCRIPT: LazyLock<Asset> =
    LazyLock::new(|| Asset::new("page", "js", "text/javascript; charset=utf-8", include_str!("assets/page.js")));

pub(crate) async fn asset(Path(name): Path<String>) -> Response {
    match [&STYLE, &SCRIPT].into_iter().find(|asset| asset.name == name) {
        Some(asset) => {
            let headers =
                [(header::CONTENT_TYPE, asset.kind), (header::CACHE_CONTROL, "private, max-age=31536000, immutable")];
            (headers, asset.text).into_response()
        }
        None => answer::problem(StatusCode::NOT_FOUND, "there is no such asset"),
    }
}
