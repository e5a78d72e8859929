//! Which addresses there are, and what a request must bring to be answered.

use std::sync::{Arc, PoisonError};

use axum::{
    Router,
    extract::{ConnectInfo, DefaultBodyLimit, Request, State},
    http::{HeaderMap, Method, StatusCode, Uri, header},
    middleware::{self, Next},
    response::{IntoResponse, Response},
    routing::{MethodRouter, get, post},
};

use super::{
    access::{Denied, Headers},
    answer, assets, connections, live, login,
    page::{Caller, Page},
    pages, stream,
};
use crate::config::dashboard::Role;

/// Bytes of a request's body, at most: a form with a name, a password and an address has less. Who sends it may be anybody.
const BODY: usize = 16 * 1024;

/// What a request needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Needs {
    /// What opens the page: with users nothing but the right `Host`, and for a change the right `Origin`; without users, which there
    /// is nothing to log in for, whatever lets somebody look.
    Nothing,
    /// The right `Host` alone: the key is in the address, and checked there.
    Key,
    /// Somebody who has at least this role.
    Role(Role),
}

/// An address.
pub(crate) struct Route {
    pub(crate) path: &'static str,
    pub(crate) needs: Needs,
    /// It answers POST alone; all others answer GET alone.
    #[cfg_attr(not(test), expect(dead_code, reason = "the method router has it, too; tests go by this"))]
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
    looks("/tasks", || get(pages::tasks::tasks)),
    looks("/tasks/{id}", || get(pages::task::task)),
    looks("/failed", || get(pages::dead_letters::failed)),
    looks("/failed/{queue}", || get(pages::dead_letters::queue)),
    looks("/failed/{queue}/{id}", || get(pages::dead_letter::letter)),
    looks("/failed/{queue}/{id}/payload", || get(pages::dead_letter::download)),
    looks("/schedules", || get(pages::schedules::schedules)),
    looks("/api/status", || get(pages::api::status)),
    looks("/api/health", || get(pages::api::health)),
    looks("/api/counters", || get(pages::api::counters)),
    looks("/api/tasks", || get(pages::tasks::api)),
    looks("/api/schedules", || get(pages::api::schedules)),
    looks("/api/failed/{queue}", || get(pages::api::failed)),
    looks("/api/failed/{queue}/{id}", || get(pages::dead_letter::json)),
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
        .layer(middleware::from_fn(connections::in_time))
        .layer(middleware::map_response(answer::with_headers))
        .with_state(page)
}

/// Lets a request pass that may.
async fn guard(State((page, needs)): State<(Arc<Page>, Needs)>, mut request: Request, next: Next) -> Response {
    let Some(ConnectInfo(Caller(peer))) = request.extensions().get::<ConnectInfo<Caller>>().copied() else {
        return StatusCode::INTERNAL_SERVER_ERROR.into_response();
    };
    let changes = !matches!(*request.method(), Method::GET | Method::HEAD);
    let admitted = {
        let headers = Headers { is_automatic: is_automatic(request.uri().path()), ..headers(&page, request.headers()) };
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
            if matches!(needs, Needs::Role(_)) {
                page.office.refresh().await;
            }
            next.run(request).await
        }
        Err(why) => denied(&page, why, request.uri(), request.headers()),
    }
}

/// Whether the page's script asks for that, as long as a page is open, and no person does.
fn is_automatic(path: &str) -> bool {
    matches!(path, "/stream" | "/api/live")
}

/// Why a request is not served.
fn denied(page: &Page, why: Denied, uri: &Uri, headers: &HeaderMap) -> Response {
    match why {
        Denied::Misdirected => answer::problem(
            StatusCode::MISDIRECTED_REQUEST,
            "the page is not known by this name, only by addresses and as localhost: `dashboard: { hosts: [NAME] }` allows more",
        ),
        Denied::ForeignOrigin => answer::problem(StatusCode::FORBIDDEN, "a change must come from the page itself"),
        Denied::Forbidden => answer::problem(StatusCode::FORBIDDEN, "your role does not allow that"),
        Denied::Unknown => {
            let has_users = page.access.lock().unwrap_or_else(PoisonError::into_inner).has_users();
            let wants_html = headers.get(header::ACCEPT).and_then(|accept| accept.to_str().ok());
            if has_users && wants_html.is_some_and(|accept| accept.contains("text/html")) {
                return login::asked(
                    StatusCode::UNAUTHORIZED,
                    uri.path_and_query().map_or("/", |path| path.as_str()),
                    None,
                );
            }
            let text = if has_users {
                "log in first"
            } else {
                "open it with the link that was printed at its start; where a master keeps it, `asynctask dashboard link` prints it"
            };
            answer::problem(StatusCode::UNAUTHORIZED, text)
        }
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
        is_automatic: false,
    }
}

#[cfg(test)]
mod tests {
    use std::net::{IpAddr, Ipv4Addr};

    use axum::{body::Body, http::request::Builder};
    use tower::ServiceExt as _;

    use super::*;
    use crate::{
        clock::Instant,
        config::dashboard::{Dashboard, Listen, Secret, User},
        dashboard::{
            access::{Peer, visitor::Visitor},
            page::test_page,
        },
    };

    const HOST: &str = "127.0.0.1:5555";
    const ORIGIN: &str = "http://127.0.0.1:5555";

    fn settings(users: &[Role]) -> Dashboard {
        let user = |role: &Role| User {
            name: role.as_str().to_owned(),
            password: Some(Secret("$argon2id$".to_owned())),
            role: *role,
        };
        let listen = Listen::Tcp((Ipv4Addr::LOCALHOST, 5555).into());
        Dashboard { listen, users: users.iter().map(user).collect(), ..Dashboard::default() }
    }

    /// Asks each route, one that is not there included, for what it may answer: `fill` makes the request whole.
    async fn asked(
        page: &Arc<Page>,
        method: Option<Method>,
        fill: impl Fn(Builder) -> Builder,
    ) -> Vec<(String, StatusCode)> {
        let mut answers = Vec::new();
        let others = [("/nothing", false)];
        for (path, changes) in ROUTES.iter().map(|route| (route.path, route.changes)).chain(others) {
            let path = path.replace(['{', '}'], "");
            let method = method.clone().unwrap_or(if changes { Method::POST } else { Method::GET });
            let request = fill(Request::builder().method(method).uri(&path)).body(Body::empty()).unwrap();
            let (mut parts, body) = request.into_parts();
            parts.extensions.insert(ConnectInfo(Caller(Peer::Address(IpAddr::V4(Ipv4Addr::LOCALHOST)))));
            let answer = router(Arc::clone(page)).oneshot(Request::from_parts(parts, body)).await.unwrap();
            for (name, _) in answer::HEADERS {
                assert!(answer.headers().contains_key(&name), "{path} lacks {name}");
            }
            assert!(answer.headers().get("access-control-allow-origin").is_none(), "{path}");
            answers.push((path, answer.status()));
        }
        answers
    }

    fn run<T>(test: impl Future<Output = T>) -> T {
        tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(test)
    }

    fn session(page: &Page, role: Role) -> String {
        let mut access = page.access.lock().unwrap();
        let visitor = Visitor { name: Some(role.as_str().to_owned()), role, has_session: true };
        format!("{}={}", access.cookie.clone(), access.sessions.open(Instant::default(), visitor).unwrap())
    }

    #[test]
    fn without_the_key_every_route_is_closed_and_under_a_foreign_name_it_is_nobodys() {
        run(async {
            let page = test_page(&settings(&[]));
            for (path, status) in asked(&page, None, |request| request.header("Host", HOST)).await {
                assert_eq!(status, StatusCode::UNAUTHORIZED, "{path}");
            }
            for host in ["evil.example:5555", "127.0.0.1.evil.example", ""] {
                for (path, status) in asked(&page, None, |request| request.header("Host", host)).await {
                    assert_eq!(status, StatusCode::MISDIRECTED_REQUEST, "{path}");
                }
            }
            for (path, status) in asked(&page, None, |request| request).await {
                assert_eq!(status, StatusCode::MISDIRECTED_REQUEST, "{path}");
            }
        });
    }

    #[test]
    fn with_users_the_form_and_its_assets_are_open_and_nothing_else() {
        run(async {
            let page = test_page(&settings(&[Role::Look]));
            let answers = asked(&page, None, |request| request.header("Host", HOST)).await;
            for ((path, status), route) in answers.iter().zip(ROUTES) {
                match route.needs {
                    Needs::Nothing if route.changes => assert_eq!(*status, StatusCode::FORBIDDEN, "{path}"),
                    Needs::Nothing => assert!([200, 404].contains(&status.as_u16()), "{path}: {status}"),
                    Needs::Key | Needs::Role(_) => assert_eq!(*status, StatusCode::UNAUTHORIZED, "{path}"),
                }
            }
        });
    }

    #[test]
    fn a_change_needs_its_role_and_a_page_of_our_own_and_another_method_does_nothing() {
        run(async {
            let page = test_page(&settings(&[]));
            for role in Role::ALL {
                for origin in
                    [None, Some("null"), Some("http://127.0.0.1:5556"), Some("http://evil.example"), Some(ORIGIN)]
                {
                    // Each request has a session of its own: one of them ends it.
                    let fill = |request: Builder| {
                        let request = request.header("Host", HOST).header("Cookie", session(&page, role));
                        origin.into_iter().fold(request, |request, origin| request.header("Origin", origin))
                    };
                    let answers = asked(&page, None, fill).await;
                    for ((path, status), route) in answers.iter().zip(ROUTES).filter(|(_, route)| route.changes) {
                        let suffices = match route.needs {
                            Needs::Role(needed) => role >= needed,
                            Needs::Nothing | Needs::Key => true,
                        };
                        let is_let = suffices && origin == Some(ORIGIN);
                        assert_eq!(*status == StatusCode::FORBIDDEN, !is_let, "{path} {role:?} {origin:?}: {status}");
                    }
                    for (path, status) in asked(&page, Some(Method::DELETE), fill).await {
                        assert!([403, 404, 405].contains(&status.as_u16()), "{path}: {status}");
                    }
                }
            }
        });
    }
}
