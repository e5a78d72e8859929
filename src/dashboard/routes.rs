//! Which addresses there are, and what a request must bring to be answered.

use std::sync::{Arc, PoisonError};

use axum::{
    Router,
    extract::{ConnectInfo, DefaultBodyLimit, Request, State},
    http::{HeaderMap, Method, StatusCode, header},
    middleware::{self, Next},
    response::{IntoResponse, Response},
    routing::{MethodRouter, get, post},
};

use super::{
    access::{Denied, Headers},
    answer, assets, live, login, pages,
    server::{From, Page},
    stream,
};
use crate::config::dashboard::Role;

/// Bytes of a request's body, at most.
const BODY: usize = 1024 * 1024;

/// What a request needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Needs {
    /// Nothing but the right `Host`, where people log in; else as everything.
    Nothing,
    /// … whoever asks: it is what opens the page.
    Key,
    /// A role.
    Role(Role),
}

/// An address.
pub(crate) struct Route {
    pub(crate) path: &'static str,
    pub(crate) needs: Needs,
    /// It answers POST alone; all others answer GET alone.
    pub(crate) changes: bool,
    handler: fn() -> MethodRouter<Arc<Page>>,
}

const fn looks(path: &'static str, handler: fn() -> MethodRouter<Arc<Page>>) -> Route {
    Route { path, needs: Needs::Role(Role::Look), changes: false, handler }
}

/// All of them: what is not here is not there.
pub(crate) const ROUTES: &[Route] = &[
    looks("/", || get(pages::overview::overview)),
    looks("/queues/{queue}", || get(pages::queue::queue)),
    looks("/schedules", || get(pages::schedules::schedules)),
    looks("/api/status", || get(pages::api::status)),
    looks("/api/health", || get(pages::api::health)),
    looks("/api/counters", || get(pages::api::counters)),
    looks("/api/live", || get(live::live)),
    looks("/stream", || get(stream::stream)),
    Route { path: "/open", needs: Needs::Key, changes: false, handler: || get(login::open) },
    Route { path: "/login", needs: Needs::Nothing, changes: false, handler: || get(login::form) },
    Route { path: "/enter", needs: Needs::Nothing, changes: true, handler: || post(login::enter) },
    Route { path: "/leave", needs: Needs::Role(Role::Look), changes: true, handler: || post(login::leave) },
    Route { path: "/assets/{name}", needs: Needs::Nothing, changes: false, handler: || get(assets::asset) },
];

/// The router over them.
pub(crate) fn router(page: Arc<Page>) -> Router {
    let router = ROUTES.iter().fold(Router::new(), |router, route| {
        let guard = middleware::from_fn_with_state((Arc::clone(&page), route.needs), guard);
        router.route(route.path, (route.handler)().layer(guard))
    });
    // What is not there is told to those alone who may look.
    let nothing = get(answer::not_found)
        .layer(middleware::from_fn_with_state((Arc::clone(&page), Needs::Role(Role::Look)), guard));
    router
        .fallback_service(nothing.with_state(Arc::clone(&page)))
        .layer(DefaultBodyLimit::max(BODY))
        .layer(middleware::map_response(answer::with_headers))
        .with_state(page)
}

/// Lets a request pass that may.
async fn guard(State((page, needs)): State<(Arc<Page>, Needs)>, mut request: Request, next: Next) -> Response {
    let Some(ConnectInfo(From(peer))) = request.extensions().get::<ConnectInfo<From>>().copied() else {
        return StatusCode::INTERNAL_SERVER_ERROR.into_response();
    };
    let changes = !matches!(*request.method(), Method::GET | Method::HEAD);
    let admitted = {
        let headers = headers(&page, request.headers());
        let mut access = page.access.lock().unwrap_or_else(PoisonError::into_inner);
        let now = page.clock.now().at;
        match needs {
            Needs::Key => access.check_host(headers.host).map(|()| None),
            Needs::Nothing if access.has_users() => {
                let is_own = access.check_host(headers.host);
                is_own.and_then(|()| if changes { access.check_origin(&headers) } else { Ok(()) }).map(|()| None)
            }
            Needs::Nothing => access.admit(now, peer, &headers, changes).map(Some),
            Needs::Role(role) => match access.admit(now, peer, &headers, changes) {
                Ok(visitor) if visitor.role < role => Err(Denied::Forbidden),
                admitted => admitted.map(Some),
            },
        }
    };
    match admitted {
        Ok(visitor) => {
            request.extensions_mut().extend(
                visitor
                    .map(|visitor| {
                        let mut extensions = axum::http::Extensions::new();
                        extensions.insert(visitor);
                        extensions
                    })
                    .unwrap_or_default(),
            );
            next.run(request).await
        }
        Err(denied) => answer::denied(&page, denied, request.uri(), request.headers()),
    }
}

fn headers<'a>(page: &Page, headers: &'a HeaderMap) -> Headers<'a> {
    // Of a header that comes twice nobody knows which one another program read.
    let only = |name: &str| {
        let mut values = headers.get_all(name).iter();
        let value = values.next()?.to_str().ok()?;
        values.next().is_none().then_some(value)
    };
    Headers {
        host: only(header::HOST.as_str()),
        origin: only(header::ORIGIN.as_str()),
        cookie: only(header::COOKIE.as_str()),
        authorization: only(header::AUTHORIZATION.as_str()),
        proxied: page.proxy_headers.as_ref().and_then(|(user, secret)| Some((only(user)?, only(secret)?))),
    }
}
