"""--discovery-srv: endpoints from a domain's SRV records."""

from __future__ import annotations

from corum.cli.command import EXIT_ERROR, ExitError

SERVICES = (("etcd-client-ssl", "https"), ("etcd-client", "http"))


def discover(domain: str, name: str, *, accept_insecure: bool) -> tuple[str, ...]:
    """Client URLs of `domain`, those with TLS first; `name` is appended to the service's name.

    Records of servers without TLS count only when `accept_insecure`.
    """
    import dns.exception
    import dns.resolver

    found: list[str] = []
    problem = ""
    for service, scheme in SERVICES:
        if scheme == "http" and not accept_insecure:
            continue
        full = f"_{service}-{name}._tcp.{domain}" if name else f"_{service}._tcp.{domain}"
        try:
            answer = dns.resolver.resolve(full, "SRV")
        except dns.exception.DNSException as error:
            problem = str(error)
            continue
        records = sorted((r.priority, r.port, str(r.target).rstrip(".")) for r in answer)
        found += [f"{scheme}://{target}:{port}" for _, port, target in records]
    if not found:
        raise ExitError(EXIT_ERROR, f"error querying DNS SRV records for _etcd-client {problem}")
    return tuple(found)
