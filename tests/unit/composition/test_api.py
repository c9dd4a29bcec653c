"""The API beside what the commands' tests show of it."""

from __future__ import annotations

import inspect

import pytest

import edgevit
from edgevit import api
from edgevit.errors import InputError
from edgevit.preprocess import Preprocess

torch = pytest.importorskip("torch", reason="models are made of torch")
pytest.importorskip("onnxruntime", reason="an export is verified on ONNX Runtime")


class Colours(torch.nn.Module):
    """Means of the channels; knows nothing of edgevit."""

    def __init__(self) -> None:
        super().__init__()
        self.gain = torch.nn.Parameter(torch.ones(()))

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        return self.gain * image.mean(dim=(2, 3))


@pytest.fixture
def asked(monkeypatch):
    """What the exporter is asked for; it writes nothing."""
    calls = []

    def export_bundle(source, settings, output, **options):
        calls.append({"source": source, "settings": settings, "output": output, **options})

    monkeypatch.setattr("edgevit.export.pipeline.export_bundle", export_bundle)
    return calls


@pytest.mark.parametrize("name", [name for name in edgevit.__all__ if name != "__version__"])
def test_a_name_of_the_package_is_documented(name):
    value = getattr(edgevit, name)
    documentation = inspect.getdoc(value) or ""
    assert documentation
    if inspect.isfunction(value):
        arguments = [name for name in inspect.signature(value).parameters if name != "settings"]
        missing = [argument for argument in arguments if f"    {argument}: " not in documentation]
        assert missing == []
        assert "Raises:" in documentation


def test_somebodys_module_is_exported_as_it_is_and_left_as_it_was(tmp_path, pictures):
    module = Colours().train()
    bundle = api.export_model(
        module,
        output=tmp_path / "colours",
        input_size=16,
        labels=["red", "green", "blue"],
        preprocess=Preprocess(height=16, width=16, mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0)),
        simplify=False,
    )
    assert module.training
    assert bundle.manifest.model.source == "Colours"
    assert api.verify_bundle(bundle.path).passed
    with edgevit.load(bundle) as session:
        assert session.predict(pictures / "green" / "1.png").label == "green"


def test_keywords_are_the_settings_of_an_export(asked, tmp_path):
    steps = []
    api.export_model(
        "recursive-deit-s",
        output=tmp_path / "d",
        routing="mask",
        batch_size=2,
        atol=0.5,
        force=True,
        report=steps.append,
    )
    (call,) = asked
    assert (call["settings"].routing, call["settings"].batch_size, call["settings"].atol) == ("mask", 2, 0.5)
    assert call["settings"].target == "cpu-x86"
    assert call["output"] == tmp_path / "d"
    assert call["force"] is True
    assert call["report"] == steps.append
    assert call["source"].name == "recursive-deit-s"


def test_an_unknown_keyword_is_a_type_error(asked, tmp_path):
    with pytest.raises(TypeError, match="rungs"):
        api.export_model("recursive-deit-s", output=tmp_path / "d", rungs="auto")


def test_labels_must_be_one_a_class(asked, tmp_path):
    with pytest.raises(InputError, match="got 2 labels for 3 classes"):
        api.export_model(Colours(), output=tmp_path / "d", input_size=16, labels=["red", "green"])


def test_a_modules_own_weights_are_the_ones_exported(asked, tmp_path):
    with pytest.raises(InputError, match="load it into the module"):
        api.export_model(Colours(), output=tmp_path / "d", checkpoint=tmp_path / "w.safetensors")


def test_a_session_closes_with_its_block(bundle, pictures):
    with edgevit.load(str(bundle), threads=1) as session:
        assert session.predict(pictures / "red" / "1.png").label == "red"
    with pytest.raises(InputError, match="closed"):
        session.predict(pictures / "red" / "1.png")


def test_progress_is_told_in_shares(bundle, pictures):
    shares = []
    api.verify_bundle(bundle, report=shares.append)
    assert shares == [0.5, 1.0]
    shares.clear()
    api.evaluate(bundle, pictures, report=shares.append)
    assert shares == pytest.approx([(i + 1) / 6 for i in range(6)])


def test_whoever_exports_is_told_of_weights_that_were_in_no_file(asked, tmp_path):
    notes = []
    edgevit.export_model("ltm/steel-recursive", output=tmp_path / "b", note=notes.append)
    assert notes == [
        "4 weights of ltm/steel-recursive were in no file and are random (merge.position, merge.norm.weight, "
        "merge.norm.bias, merge.score.weight); train it first"
    ]
    edgevit.export_model("steel-ltm", output=tmp_path / "c", note=notes.append)
    edgevit.export_model("tome/steel-dense", output=tmp_path / "d", note=notes.append)
    assert len(notes) == 1
    assert len(asked) == 3
