"""The ERP port: what the embedded adapter refuses, and what the HTTP one makes of any answer at all."""

from __future__ import annotations

import asyncio
import gzip
import logging
import time
from contextlib import aclosing
from typing import Any

import httpx2
import pytest

from invoice_mcp.adapters.erp import EmbeddedErp, Erp, ErpMismatchError, ErpUnavailableError, HttpErp
from invoice_mcp.domain.invoice import Invoice
from tests.requirements import requirement
from tests.unit.faulty_http import (
    Behaviour,
    Connection,
    Request,
    answers,
    answers_twice,
    drips,
    floods,
    hangs,
    misbehaving,
    resets,
    says,
    truncates,
)

SHORT = 0.3
LONG = 5.0


@pytest.fixture(autouse=True)
def _straight_to_the_server(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("no_proxy", "127.0.0.1")


def an_invoice(amounts: tuple[str, ...] = ("100.00", "49.5"), **more: Any) -> Invoice:
    lines = [{"description": "Paper", "amount": amount, "due_date": "2026-06-30T00:00:00+02:00"} for amount in amounts]
    return Invoice.model_validate({"invoice_id": "INV-1", "customer": "ACME", "lines": lines, **more})


async def verdict(behaviour: Behaviour, *, timeout: float = LONG) -> str:  # noqa: ASYNC109 - it is the adapter's
    """What the adapter makes of one answer: `accepted`, `mismatch: ...` or `unavailable: ...`, within bounds."""
    async with misbehaving(behaviour) as server, aclosing(HttpErp(server.url, timeout=timeout)) as erp:
        return await asked(erp)


async def asked(erp: Erp, invoice: Invoice | None = None) -> str:
    kind, told = "accepted", ""
    try:
        async with asyncio.timeout(LONG * 2):
            await erp.validate(invoice or an_invoice())
    except ErpMismatchError as mismatch:
        kind, told = "mismatch", mismatch.reason
    except ErpUnavailableError as trouble:
        kind, told = "unavailable", str(trouble)
    assert told.isprintable()
    assert len(told) <= (300 if kind == "mismatch" else 500)
    return f"{kind}: {told}" if told else kind


class TestEmbedded:
    async def test_a_sound_invoice_is_accepted(self) -> None:
        assert await asked(EmbeddedErp()) == "accepted"

    async def test_two_lines_may_be_equal_in_every_field(self) -> None:
        assert await asked(EmbeddedErp(), an_invoice(("1", "2", "1.00"))) == "accepted"

    @pytest.mark.parametrize("total", ["149.5", "149.50", "0149.500", " 149.50\n"])
    async def test_an_expected_total_that_is_the_total_is_accepted(self, total: str) -> None:
        assert await asked(EmbeddedErp(), an_invoice(metadata={"expected_total": total})) == "accepted"

    @pytest.mark.parametrize("total", ["149.51", "0", "9" * 4096])
    async def test_an_expected_total_that_is_not_the_total_is_refused(self, total: str) -> None:
        said = await asked(EmbeddedErp(), an_invoice(metadata={"expected_total": total}))
        assert said.startswith("mismatch: the lines sum up to USD 149.50, the metadata's expected_total is ")

    @pytest.mark.parametrize(
        "total", ["", "NaN", "sNaN", "1e3", "-149.5", "149,50", "149.50 USD", "1_0", "١٤٩", "\x1b[2J", "x" * 4096]
    )
    async def test_an_expected_total_that_is_no_number_is_refused(self, total: str) -> None:
        said = await asked(EmbeddedErp(), an_invoice(metadata={"expected_total": total}))
        assert said.startswith("mismatch: the metadata's expected_total is no plain decimal number: ")

    async def test_60_characters_of_an_expected_total_are_shown(self) -> None:
        said = await asked(EmbeddedErp(), an_invoice(metadata={"expected_total": "x" * 70}))
        assert len(said.rpartition(": ")[2].strip("'")) == 60

    async def test_an_erp_set_to_refuse_refuses_everything(self) -> None:
        assert (await asked(EmbeddedErp(refuse=True))).startswith("mismatch: MISMATCH: ")


class TestRequest:
    @requirement("INV-UNKNOWN")
    async def test_the_invoice_is_posted_as_json_with_its_total_as_text(self) -> None:
        invoice = an_invoice(metadata={"cost_centre": "7"})
        async with misbehaving(answers(200, {})) as server, aclosing(HttpErp(f"{server.url}/api/")) as erp:
            await erp.validate(invoice)
        (request,) = server.requests
        assert (request.method, request.path) == ("POST", "/api/invoices/validate")
        assert request.json() == invoice.model_dump(mode="json") | {"total": "149.50"}
        assert Invoice.model_validate({k: v for k, v in request.json().items() if k != "total"}) == invoice

    async def test_the_password_of_the_url_is_sent_and_told_to_nobody(self, caplog: pytest.LogCaptureFixture) -> None:
        caplog.set_level(logging.DEBUG, logger="httpx2")
        async with misbehaving(answers(500)) as server:
            url = server.url.replace("//", "//clerk:s3cret%21@")
            async with aclosing(HttpErp(url)) as erp:
                said = await asked(erp)
        assert server.requests[0].headers["authorization"] == httpx2.BasicAuth("clerk", "s3cret!")._auth_header
        assert server.url in said
        assert "invoices/validate" in caplog.text
        assert "s3cret" not in said + caplog.text

    async def test_a_cookie_is_never_sent_back(self) -> None:
        async with (
            misbehaving(answers(200, {}, Set_Cookie="session=1")) as server,
            aclosing(HttpErp(server.url)) as erp,
        ):
            await erp.validate(an_invoice())
            await erp.validate(an_invoice())
        assert [request.headers.get("cookie") for request in server.requests] == [None, None]

    async def test_a_client_of_ones_own_is_used_and_left_open(self) -> None:
        async with misbehaving(answers(200, {})) as server, httpx2.AsyncClient(headers={"X-Key": "k"}) as client:
            async with aclosing(HttpErp(server.url, client=client)) as erp:
                assert await asked(erp) == "accepted"
            assert not client.is_closed
        assert server.requests[0].headers["x-key"] == "k"

    @requirement("PORT-ANSWER")
    async def test_an_answer_that_arrives_twice_is_not_taken_for_the_next_invoices(self) -> None:
        def refuses_the_first(request: Request) -> dict[str, object]:
            return {"valid": request.json()["invoice_id"] != "INV-1", "reason": "blocked"}

        async with (
            misbehaving(answers_twice(refuses_the_first), keeps_alive=True) as server,
            aclosing(HttpErp(server.url)) as erp,
        ):
            assert await asked(erp) == "mismatch: blocked"
            assert await asked(erp, an_invoice(invoice_id="INV-2")) == "accepted"

    @requirement("PORT-ANSWER")
    @pytest.mark.parametrize("status", [200, 422])
    async def test_an_answer_for_another_invoice_is_no_verdict(self, status: int) -> None:
        said = await verdict(answers(status, {"invoice_id": "INV-2", "valid": status == 200, "reason": "blocked"}))
        assert said.startswith("unavailable: the ERP at ")
        assert said.endswith(" gave an answer for something else: its invoice_id is INV-2, not INV-1")
        own = await verdict(answers(status, {"invoice_id": "INV-1", "valid": status == 200, "reason": "blocked"}))
        assert own == ("accepted" if status == 200 else "mismatch: blocked")

    @requirement("PORT-ANSWER")
    async def test_accepted_for_later_is_no_verdict(self) -> None:
        said = await verdict(answers(202, {"valid": True}))
        assert said.endswith(" answered 202: it was accepted, and is not done yet")

    @pytest.mark.parametrize("url", ["", "erp.local", "ftp://erp", "http://", "http://erp?key=1", "http://u:top#1@erp"])
    def test_a_url_that_is_none_is_refused_at_once(self, url: str) -> None:
        with pytest.raises(ValueError, match="the URL of the ERP") as refused:
            HttpErp(url)
        assert "top" not in str(refused.value)


class TestVerdicts:
    @pytest.mark.parametrize(
        "behaviour",
        [answers(200, {}), answers(201, {"valid": True}), answers(200, {"error": "none"}), answers(204)],
    )
    async def test_a_success_accepts_the_invoice(self, behaviour: Behaviour) -> None:
        assert await verdict(behaviour) == "accepted"

    @requirement("PORT-ERP")
    @pytest.mark.parametrize(
        ("status", "body", "reason"),
        [
            (200, {"valid": False, "reason": "unknown customer"}, "unknown customer"),
            (200, {"valid": False, "reason": 5}, "the ERP calls it invalid and says no more"),
            (422, {"reason": "unknown customer"}, "unknown customer"),
            (400, {"error": "unknown customer"}, "unknown customer"),
            (400, {"reason": " ", "error": "unknown customer"}, "unknown customer"),
            (409, {"reason": ["no", "text"]}, "the ERP answered 409"),
            (400, ["no object"], "the ERP answered 400"),
            (418, b"<h1>I'm a teapot</h1>", "the ERP answered 418"),
            (400, b"", "the ERP answered 400"),
        ],
    )
    async def test_a_refusal_is_a_mismatch_with_its_reason(self, status: int, body: object, reason: str) -> None:
        assert await verdict(answers(status, body)) == f"mismatch: {reason}"

    async def test_a_long_or_unprintable_reason_is_shortened_and_made_printable(self) -> None:
        said = await verdict(answers(400, {"reason": "a\nb\x1b[2J\u202e\ud800" + "x" * 60_000}))
        assert said.startswith("mismatch: a b\\x1b[2J\\u202e\\ud800xxx")
        assert said.endswith("x…")

    @requirement("PORT-ERP")
    @pytest.mark.parametrize(
        ("status", "check"),
        [
            (401, "credentials"),
            (403, "credentials"),
            (404, "base URL"),
            (405, "base URL"),
            (407, "proxy"),
            (300, "redirects"),
            (408, "another time"),
            (425, "another time"),
            (429, "another time"),
            (500, "another time"),
            (503, "another time"),
            (999, "another time"),
        ],
    )
    async def test_what_speaks_of_the_setup_or_the_moment_is_no_verdict(self, status: int, check: str) -> None:
        said = await verdict(answers(status, {"reason": "as it is", "valid": False}))
        assert said.startswith("unavailable: the ERP at http://127.0.0.1:")
        assert f"answered {status} (as it is): " in said
        assert check in said

    @pytest.mark.parametrize("location", ["/elsewhere", "http://[", "\x80", "http://127.0.0.1:1/"])
    async def test_a_redirect_is_not_followed(self, location: str) -> None:
        async with misbehaving(answers(307, Location=location)) as server, aclosing(HttpErp(server.url)) as erp:
            assert (await asked(erp)).startswith("unavailable: ")
        assert len(server.requests) == 1

    @pytest.mark.parametrize(
        "behaviour",
        [
            answers(200),
            answers(200, b"<html>Please log in</html>"),
            answers(200, b"\xff\xfe\x00{"),
            answers(200, b"[" * 60_000),
            answers(200, b'{"a":' * 12_000),
            answers(200, b"9" * 60_000),
            answers(200, False),
            answers(200, ["valid"]),
            answers(200, gzip.compress(b"{}" + b" " * 10_000_000), Content_Encoding="gzip"),
            floods(200),
        ],
        ids=["empty", "html", "bytes", "brackets", "braces", "digits", "false", "list", "compressed", "endless"],
    )
    async def test_a_success_that_cannot_be_read_is_no_verdict(self, behaviour: Behaviour) -> None:
        assert "answered 200 without a readable JSON object" in await verdict(behaviour)

    @pytest.mark.parametrize("valid", ["false", 0, None, {}])
    async def test_an_unclear_success_is_no_verdict(self, valid: object) -> None:
        said = await verdict(answers(200, {"valid": valid}))
        assert said.startswith("unavailable: the ERP's answer is unclear")


class TestBrokenPeers:
    @pytest.mark.parametrize(
        "behaviour",
        [
            resets,
            truncates(200),
            truncates(422),
            says(b""),
            says(b"\x00\xff\x1b[2J garbage\r\n\r\n"),
            says(b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 100_000),
            says(b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n{}"),
            says(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n{}"),
            says(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n"),
        ],
        ids=["reset", "truncated", "truncated-422", "silent", "garbage", "headers", "length", "chunks", "upgrade"],
    )
    async def test_a_broken_answer_is_no_verdict(self, behaviour: Behaviour) -> None:
        assert (await verdict(behaviour)).startswith("unavailable: ")

    @pytest.mark.parametrize("behaviour", [hangs, drips])
    async def test_a_whole_call_is_bounded_in_time(self, behaviour: Behaviour) -> None:
        began = time.monotonic()
        said = await verdict(behaviour, timeout=SHORT)
        assert said.endswith(" gave no complete answer within 0.3 s")
        assert time.monotonic() - began < LONG

    async def test_an_erp_that_is_not_there_is_no_verdict(self) -> None:
        async with misbehaving(hangs) as gone:
            pass
        async with aclosing(HttpErp(gone.url)) as erp:
            said = await asked(erp)
        assert said.startswith(f"unavailable: the ERP at {gone.url}/invoices/validate could not be asked, or broke off")

    async def test_an_erp_that_recovers_is_heard_again_by_the_same_adapter(self) -> None:
        async with misbehaving(resets) as server, aclosing(HttpErp(server.url, timeout=LONG)) as erp:
            assert (await asked(erp)).startswith("unavailable: ")
            server.behaviour = answers(200, {"valid": True})
            assert await asked(erp) == "accepted"

    async def test_a_cancelled_validation_is_cancelled_and_nothing_else(self) -> None:
        arrived = asyncio.Event()

        async def hangs_and_tells(connection: Connection) -> None:
            arrived.set()
            await hangs(connection)

        async with misbehaving(hangs_and_tells) as server, aclosing(HttpErp(server.url, timeout=LONG)) as erp:
            validation = asyncio.create_task(erp.validate(an_invoice()))
            await asyncio.wait_for(arrived.wait(), LONG)
            validation.cancel()
            with pytest.raises(asyncio.CancelledError):
                await validation
