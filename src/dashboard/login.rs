//! How the page is opened: with the link that has the key, or with a name and a password.

use std::sync::{Arc, PoisonError};

use askama::Template;
use axum::{
    Form,
    extract::{ConnectInfo, Query, State},
    http::{HeaderMap, HeaderValue, StatusCode, header},
    response::{IntoResponse, Redirect, Response},
};
use serde::Deserialize;

use super::{
    access::{
        self, Peer,
        password::{self, LONGEST_PASSWORD},
        visitor::Visitor,
    },
    answer,
    assets::STYLE,
    page::{Caller, Page},
};
use crate::config::dashboard::{LONGEST_NAME, Role};

/// Bytes of an address to go on to after the login.
const NEXT: usize = 2000;
/// A hash of nobody's password: a name that is not known takes as long as one that is.
const NOBODY: &str = "$argon2id$v=19$m=19456,t=2,p=1$bm9ib2R5J3Mgc2FsdA$3b5Z0hPzZ2m1y1c8zq0o0Kq3v5l7Q2m7v0Xr6k4yXJ8";

#[derive(Template)]
#[template(path = "login.html", config = "src/dashboard/askama.toml")]
struct Login<'a> {
    style: String,
    next: &'a str,
    error: Option<&'a str>,
}

/// The form.
pub(crate) fn asked(status: StatusCode, next: &str, error: Option<&str>) -> Response {
    answer::page(status, &Login { style: format!("/assets/{}", STYLE.name), next: own_path(next), error })
}

/// Where to go after the login: nowhere else than to a page of ours.
fn own_path(path: &str) -> &str {
    // A browser takes tabs and line ends out of an address before it reads it, and a backslash for a slash (WHATWG URL).
    let is_plain = path.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'\\');
    let is_own = is_plain && path.starts_with('/') && !path.starts_with("//") && path.len() <= NEXT;
    if is_own { path } else { "/" }
}

#[derive(Deserialize)]
pub(crate) struct Next {
    #[serde(default)]
    next: String,
}

pub(crate) async fn form(State(page): State<Arc<Page>>, Query(Next { next }): Query<Next>) -> Response {
    if page.access.lock().unwrap_or_else(PoisonError::into_inner).has_users() {
        asked(StatusCode::OK, &next, None)
    } else {
        // Nobody has a name here, and who comes so far has a session.
        Redirect::to(own_path(&next)).into_response()
    }
}

#[derive(Deserialize)]
pub(crate) struct Link {
    #[serde(default)]
    key: String,
}

/// Opens a session with the key of the link, and goes on to an address without it.
pub(crate) async fn open(
    State(page): State<Arc<Page>>,
    headers: HeaderMap,
    Query(Link { key }): Query<Link>,
) -> Response {
    let is_right = {
        let access = page.access.lock().unwrap_or_else(PoisonError::into_inner);
        !access.has_users() && access.key.is_of(&key)
    };
    if !is_right {
        return answer::problem(
            StatusCode::UNAUTHORIZED,
            "this is not the key of the page as it runs now: where a master keeps it, `asynctask dashboard link` prints the link",
        );
    }
    enter_as(&page, &headers, Visitor { name: None, role: Role::All, has_session: true }, "/")
}

#[derive(Deserialize)]
pub(crate) struct Credentials {
    name: String,
    password: String,
    #[serde(default)]
    next: String,
}

/// Checks a password. One at a time; who comes when too many wait is told so.
pub(crate) async fn enter(
    State(page): State<Arc<Page>>,
    ConnectInfo(Caller(peer)): ConnectInfo<Caller>,
    headers: HeaderMap,
    Form(given): Form<Credentials>,
) -> Response {
    let Credentials { name, password, next } = given;
    // Nobody's, so nothing of it is kept.
    if name.len() > LONGEST_NAME || password.len() > LONGEST_PASSWORD {
        return wrong(&next);
    }
    if let Some(refused) = refused(&page, &name, peer, &next) {
        return refused;
    }
    let Some(_waits) = page.waiting.if_room(peer, &name) else {
        return asked(
            StatusCode::SERVICE_UNAVAILABLE,
            &next,
            Some("Too many people log in at this moment: try again."),
        );
    };
    let Ok(_turn) = page.checking.acquire().await else { return StatusCode::SERVICE_UNAVAILABLE.into_response() };
    // One that came before may have failed meanwhile.
    if let Some(refused) = refused(&page, &name, peer, &next) {
        return refused;
    }
    let (hash, role) = {
        let access = page.access.lock().unwrap_or_else(PoisonError::into_inner);
        let user = access.users.iter().find(|user| user.name == name);
        let hash = user.and_then(|user| user.password.as_ref()).map_or(NOBODY, |hash| &hash.0);
        (hash.to_owned(), user.filter(|user| user.password.is_some()).map(|user| user.role))
    };
    let checked = tokio::task::spawn_blocking(move || password::is_right(&password, &hash)).await;
    let now = page.clock.now().at;
    let mut throttle = page.throttle.lock().unwrap_or_else(PoisonError::into_inner);
    let Some(role) = role.filter(|_| checked.unwrap_or(false)) else {
        throttle.failed(now, &name, peer);
        return wrong(&next);
    };
    throttle.succeeded(&name, peer);
    drop(throttle);
    enter_as(&page, &headers, Visitor { name: Some(name), role, has_session: true }, own_path(&next))
}

fn wrong(next: &str) -> Response {
    asked(StatusCode::UNAUTHORIZED, next, Some("Name or password is wrong."))
}

/// The answer to who guessed wrong and has to wait.
fn refused(page: &Page, name: &str, peer: Peer, next: &str) -> Option<Response> {
    let now = page.clock.now().at;
    let wait = page.throttle.lock().unwrap_or_else(PoisonError::into_inner).wait(now, name, peer)?;
    let text = format!("Wrong before: try again in {} s.", wait.as_secs() + 1);
    let mut response = asked(StatusCode::TOO_MANY_REQUESTS, next, Some(&text));
    response.headers_mut().extend([(header::RETRY_AFTER, HeaderValue::from(wait.as_secs() + 1))]);
    Some(response)
}

fn enter_as(page: &Page, headers: &HeaderMap, visitor: Visitor, next: &str) -> Response {
    let mut access = page.access.lock().unwrap_or_else(PoisonError::into_inner);
    let value = match access.sessions.open(page.clock.now().at, visitor) {
        Ok(value) => value,
        Err(error) => return answer::problem(StatusCode::INTERNAL_SERVER_ERROR, &error.to_string()),
    };
    // A browser drops that of an answer that came over http, as by an address behind the proxy.
    let host = headers.get(header::HOST).and_then(|host| host.to_str().ok());
    let is_https = page.is_secure && host.is_some_and(|host| access.hosts.is_url(host));
    let secure = if is_https { "; Secure" } else { "" };
    // Lax: a link in an alarm leads to the page and finds its session.
    let cookie = format!("{}={value}; Path=/; HttpOnly; SameSite=Lax{secure}", access.cookie);
    with_cookie(&cookie, next)
}

/// Ends the session.
pub(crate) async fn leave(State(page): State<Arc<Page>>, headers: HeaderMap) -> Response {
    let mut access = page.access.lock().unwrap_or_else(PoisonError::into_inner);
    let name = access.cookie.clone();
    for value in headers
        .get(header::COOKIE)
        .and_then(|header| header.to_str().ok())
        .into_iter()
        .flat_map(|header| access::cookies(header, &name))
    {
        access.sessions.close(value);
    }
    with_cookie(&format!("{}=; Path=/; HttpOnly; SameSite=Lax; Max-Age=0", access.cookie), "/")
}

fn with_cookie(cookie: &str, next: &str) -> Response {
    match HeaderValue::from_str(cookie) {
        Ok(cookie) => ([(header::SET_COOKIE, cookie)], Redirect::to(next)).into_response(),
        Err(error) => answer::problem(StatusCode::INTERNAL_SERVER_ERROR, &error.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn after_a_login_only_own_pages_follow() {
        for own in ["/", "/queues/foo?page=2"] {
            assert_eq!(own_path(own), own);
        }
        let long = format!("/{}", "x".repeat(3000));
        for foreign in [
            "",
            "//evil.example",
            "https://evil.example",
            "/\\evil.example",
            "/a\r\nb",
            "/\t/evil.example",
            "/ü",
            "/a b",
            &long,
        ] {
            assert_eq!(own_path(foreign), "/", "{foreign}");
        }
    }

    #[test]
    fn nobody_has_nobodys_password() {
        assert!(!password::is_right("", NOBODY) && crate::config::dashboard::is_hash(NOBODY));
    }
}
