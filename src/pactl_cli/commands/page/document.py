"""The page of `pactl report --html`: one file without scripts, which loads nothing from elsewhere."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from importlib.resources import files

from pactl_cli import __version__
from pactl_cli.certificate.certificate import Certificate
from pactl_cli.certificate.percent import in_bits, percent
from pactl_cli.certificate.questions import ERROR
from pactl_cli.commands.page import figures, guarantees
from pactl_cli.commands.page.figures import COLOURS, NamedRun, table
from pactl_cli.commands.page.markup import Child, Markup, plain, tag
from pactl_cli.commands.page.plot import PLOTS
from pactl_cli.errors import quoted, shell_command
from pactl_cli.stages.report import Report, are_comparable, best_certified, read_details

_LONGEST_NAME = 44
_INCOMPARABLE = (
    "These certificates are not all about the same examples, starting weights, delta and guarantees. Each holds with "
    "its own confidence. Choosing the lowest is paid for only among runs on one training set from the same weights; "
    "pactl bound RUN_A RUN_B checks that."
)


def page(reports: Sequence[Report]) -> str:
    """Return the HTML document."""
    runs = named_runs(reports)
    best = best_certified(reports)
    chosen = next((run for run in runs if run.report is best), None)
    style = files(__package__).joinpath("page.css").read_text(encoding="utf-8")
    head = tag(
        "head",
        tag("meta", charset="utf-8"),
        tag("meta", name="viewport", content="width=device-width, initial-scale=1"),
        tag("meta", name="color-scheme", content="light dark"),
        tag("title", f"pactl: {chosen.name if chosen else 'runs'}"),
        tag("style", Markup(style)),
    )
    first, *others = FIGURES.values()
    sections: list[Markup | None] = [
        _header(chosen, len(reports), comparable=are_comparable(reports)),
        _runs(runs, chosen),
        *(drawn(runs) for drawn in (first, guarantees.guaranteed, *others)),
        _particulars(runs),
    ]
    body = tag("body", tag("main", sections), _footer())
    return "<!doctype html>\n" + tag("html", head, body, lang="en") + "\n"


def named_runs(reports: Sequence[Report]) -> list[NamedRun]:
    """Return runs with short, distinct names: the directory's own name if that is unique."""
    own = [report.path.resolve().name for report in reports]
    times = Counter(own)
    names = [name if times[name] == 1 else str(report.path) for name, report in zip(own, reports, strict=True)]
    times = Counter(names)
    names = [name if times[name] == 1 else f"{name} ({place})" for place, name in enumerate(names, 1)]
    return [
        NamedRun(
            plain(name, _LONGEST_NAME),
            f"run-{place % COLOURS} dash-{place // COLOURS % 3}",
            report,
            read_details(report),
        )
        for place, (name, report) in enumerate(zip(names, reports, strict=True))
    ]


def _what_it_depends_on(runs: Sequence[NamedRun]) -> Markup | None:
    """Return the figure of the bounds of the run with the lowest certificate."""
    best = best_certified([run.report for run in runs])
    drawn = (figures.what_it_depends_on(run.name, c) for run in runs if run.report is best and (c := best.certificate))
    return next(drawn, None)


_FIGURES = (
    figures.bound_against_test,
    guarantees.abstention,
    guarantees.calibration,
    figures.where_bits_go,
    figures.symbols,
    figures.learning,
    _what_it_depends_on,
)
FIGURES: dict[str, Callable[[Sequence[NamedRun]], Markup | None]] = dict(zip(PLOTS, _FIGURES, strict=True))
"""The figures of the page by name: each returns a section, or None if there is nothing to draw."""


def _header(chosen: NamedRun | None, runs: int, *, comparable: bool) -> Markup:
    """Return the header of the page: the certificate in words."""
    if chosen is None or chosen.report.certificate is None:
        lede = ["None of these runs is certified. Certify one by ", tag("code", "pactl bound RUN_DIR"), "."]
        title = tag("p", "pactl report", class_="eyebrow"), tag("h1", "No certificate yet.")
        return tag("header", *title, tag("p", lede, class_="lede"))
    certificate = chosen.report.certificate
    claim, ground = _claim(certificate)
    headline = certificate.guarantee(certificate.headline)
    before, number, after = claim.partition(percent(headline.bound if headline else certificate.error_bound))
    which = f"The lowest certificate of {runs} runs" if runs > 1 else "The certificate"
    return tag(
        "header",
        tag("p", f"{which}: ", tag("span", chosen.name, class_="verbatim"), class_="eyebrow"),
        tag("h1", before, tag("span", number, class_="number"), after),
        tag("p", ground, class_="lede"),
        _tiles(certificate),
        tag(
            "p",
            "This is what the run's own files say. Nothing was verified here: ",
            tag("code", shell_command("verify", chosen.report.path)),
            " decodes the message, rebuilds the classifier and counts again.",
            class_="caution",
        ),
        _advice(chosen.report),
        None if comparable else tag("p", _INCOMPARABLE, class_="caution"),
    )


def _advice(report: Report) -> Markup | None:
    """Return the advice for a certificate that says nothing."""
    advised = report.advice()
    if advised is None:
        return None
    command = [": ", tag("code", advised.command)] if advised.command else "."
    return tag("p", f"{advised.reason} Next, {advised.why}", command, class_="caution")


def _claim(certificate: Certificate) -> tuple[str, str]:
    """Return a certificate's statement in two parts: what holds; when it abstains and on what it was computed."""
    first, _, second = certificate.statement.partition(": ")
    if second.startswith("with "):  # the statement of a hold-out bound begins with that word
        claim, _, ground = second.partition(", counted on")
        return f"W{claim[1:]}.", f"{first}, counted on{ground}"
    claim, _, condition = first.partition("; ")
    rest = ". ".join(f"{part[:1].upper()}{part[1:]}" for part in (condition, second) if part)
    return f"{claim}.", rest


def _tiles(certificate: Certificate) -> Markup:
    """Return the numbers below the headline."""
    counted = f"{certificate.errors:,} of {certificate.bound_examples:,}"
    test = "no test set" if certificate.test_error is None else "a check, not used"
    compared = (
        "published accounting",
        percent(certificate.published.bound),
        in_bits(round(certificate.published.bits)),
    )
    error = ("certified error", percent(certificate.error_bound), "of all new examples")
    facts = [
        ("training error", percent(certificate.quantised_train_error), counted),
        ("test error", percent(certificate.test_error), test),
        ("message", in_bits(certificate.paid_bits), f"{certificate.intrinsic_dim:,} symbols"),
        compared if certificate.headline == ERROR else error,
    ]
    tiles = [tag("div", tag("dt", name), tag("dd", value, tag("small", note))) for name, value, note in facts]
    return tag("dl", tiles, class_="tiles")


def _runs(runs: Sequence[NamedRun], chosen: NamedRun | None) -> Markup:
    """Return the table of runs."""
    rows = [_row(run, run is chosen and len(runs) > 1) for run in runs]
    header = ("run", "d", "training error", "test error", "bits", "certificate", "chance", "published", "hold-out")
    thresholds = any(run.report.certificate and run.report.certificate.bits.threshold for run in runs)
    note = (
        f"Bits are followed by their parts: configuration + codebook + symbols + ledger{' + threshold' * thresholds}. "
        "Percentages are rounded up."
    )
    return tag(
        "section", tag("h2", "The runs"), tag("div", table(header, rows, "The runs"), class_="runs"),
        tag("p", note, class_="note"),
    )  # fmt: skip


def _row(run: NamedRun, is_best: bool) -> list[Child]:
    """Return the cells of a run."""
    report, certificate = run.report, run.report.certificate
    words = [plain(report.named(fact), 60) for fact in ("model_name", "intrinsic_mode") if report.named(fact)]
    about = " · ".join([plain(report.dataset or report.kind, 60), *words])
    badge = tag("span", "lowest", class_="badge") if is_best else None
    if certificate is None:
        badge = tag(
            "span", "trained, not certified" if report.state == "trained" else report.state, class_="badge faint"
        )
    dim = report.named("intrinsic_dim")
    name: Child = [tag("span", run.name, class_="name"), badge, tag("small", about)]
    first: list[Child] = (
        [name, plain(dim) if not isinstance(dim, int) else f"{dim:,}"] if dim is not None else [name, "-"]
    )
    if certificate is None:
        return [*first, *"-------"]
    bits = certificate.bits
    parts = f"{bits.configuration} + {bits.codebook} + {bits.symbols:,} + {bits.ledger:.6g}"
    parts += f" + {bits.threshold}" if bits.threshold else ""
    others = certificate.at_other_deltas
    jointly = [tag("small", _whole(each.error_bound), f" at delta {each.delta:g}") for each in others]
    return [
        *first,
        percent(certificate.quantised_train_error),
        percent(certificate.test_error),
        [f"{certificate.paid_bits:,.6g}", tag("small", parts)],
        [tag("strong", percent(certificate.error_bound)), *jointly],
        [percent(certificate.chance_error), tag("small", "most frequent ", _whole(certificate.majority_error))],
        [percent(certificate.published.bound), tag("small", in_bits(round(certificate.published.bits)))],
        percent(certificate.holdout_bound),
    ]


def _whole(error: float) -> Markup:
    """Return an error in percent on which no line ends."""
    return tag("span", percent(error), class_="whole")


def _particulars(runs: Sequence[NamedRun]) -> Markup:
    """Return the details of each run: its settings, its assumptions, and how to check it."""
    return tag("section", tag("h2", "Run by run"), [_article(run) for run in runs], class_="particulars")


def _article(run: NamedRun) -> Markup:
    report, certificate = run.report, run.report.certificate
    facts: dict[str, object] = {"directory": report.path, "command": report.kind}
    names = ("model_name", "base_width", "intrinsic_mode", "intrinsic_dim", "seed", "calibration_examples")
    facts |= {name.replace("_", " "): report.named(name) for name in names}
    if settings := report.settings:
        facts |= {"recipe": settings.optimizer, "epochs": settings.epochs, "learning rate": settings.lr}
        facts |= {"label noise": settings.label_noise or None, "image size": settings.image_size}
        facts |= {"classes": ", ".join(settings.class_names or ())}
    if certificate:
        facts |= {
            "other bounds": "  ".join(f"{name} {percent(b)}" for name, b in certificate.bounds.items()),
            "jointly": ", ".join(f"{percent(b.error_bound)} at delta {b.delta:g}" for b in certificate.at_other_deltas),
            "bound was told": quoted(", ".join(f"{name} {value}" for name, value in certificate.made_with.items())),
            "log-loss": _log_loss(certificate.train_nll_bits),
            "sha256 of the message": certificate.message_sha256,
            "sha256 of the examples": certificate.data_sha256,
        }
        if posthoc := certificate.posthoc:
            facts["published path"] = (
                f"{percent(posthoc.bound)}, k-means K = {posthoc.levels}, {in_bits(round(posthoc.bits))}"
            )
    shown = {name: value for name, value in facts.items() if value is not None and value != ""}
    listed = [
        tag("div", tag("dt", name), tag("dd", plain(value)), class_="wide" if len(plain(value)) > 36 else None)
        for name, value in shown.items()
    ]
    next_step = shell_command("verify" if certificate else "bound", run.report.path)
    return tag(
        "article",
        tag("h3", run.name),
        tag("p", certificate.statement) if certificate else None,
        _advice(report),
        tag("dl", listed, class_="facts"),
        _assumptions(certificate) if certificate else None,
        tag("p", "Check it: " if certificate else "Next: ", tag("code", next_step), class_="note"),
    )


def _log_loss(bits: float | None) -> str:
    """Return a total log-loss; a dash if it is not finite."""
    return "-" if bits is None else f"{bits:,.1f} bits on the training examples"


def _assumptions(certificate: Certificate) -> list[Markup]:
    lines = [tag("li", line) for line in certificate.assumptions]
    return [tag("p", "It assumes, and no program can check:"), tag("ul", lines)]


def _footer() -> Markup:
    return tag("footer", tag("p", f"Made by pactl {__version__} from run directories alone. No script, no network."))
