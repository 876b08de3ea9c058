"""The dashboard as it would be sent to W&B, with a stand-in in the place of its server."""

import json
from types import SimpleNamespace

import pytest

from vgg.core.errors import UserError
from vgg.evaluation.selection import Origins
from vgg.report import claims, tables, wandb_dashboard


class Server:
    """In W&B's place: keeps what is saved."""

    def __init__(self, patch: pytest.MonkeyPatch):
        import wandb
        from wandb_workspaces.reports.v2 import interface as reports
        from wandb_workspaces.workspaces import interface, internal

        self.views: dict[str, dict] = {}
        api = SimpleNamespace(
            default_entity="someone",
            projects=lambda entity: [SimpleNamespace(name=name) for name in ("vgg", "other")],
        )
        patch.setattr(wandb, "login", lambda **unused: True)
        patch.setattr(wandb, "Api", lambda **unused: api)
        patch.setattr(internal, "execute_graphql", self.answer)
        patch.setattr(reports, "execute_graphql", self.answer)
        for module in (interface, reports):
            patch.setattr(module, "get_app_url", lambda api: "https://example.org")

    def answer(self, api, query: str, asked: dict) -> dict:
        if "mutation" in query:
            identity = asked.get("id") or f"{'A' * 8}{len(self.views)}AA="
            new = identity not in self.views
            self.views[identity] = asked | {
                "id": identity,
                "project": {"id": "1", "name": asked["projectName"], "entityName": asked["entityName"]},
            }
            return {"upsertView": {"view": self.views[identity], "inserted": new}}
        if "allViews" in query:
            found = [view for view in self.views.values() if view["name"] == asked["viewName"]]
            return {"project": {"allViews": {"edges": [{"node": view} for view in found]}}}
        if "internalId" in query:
            return {"project": {"internalId": "1"}}
        found = self.views.get(asked["reportId"])
        return {"view": found and found | {"createdAt": None, "updatedAt": None}}

    def spec(self, kind: str) -> dict:
        """Of the only view of this type."""
        (view,) = [view for view in self.views.values() if view["type"] == kind]
        return json.loads(view["spec"])


@pytest.fixture
def server(monkeypatch):
    return Server(monkeypatch)


def panels(spec: dict) -> dict[str, dict]:
    """Every panel of a serialised workspace or report, by its title."""
    found: dict[str, dict] = {}

    def visit(value):
        if isinstance(value, dict):
            if "viewType" in value:
                found[value["config"].get("chartTitle", "text")] = value
            for each in value.values():
                visit(each)
        elif isinstance(value, list):
            for each in value:
                visit(each)

    visit(spec)
    return found


def test_the_dashboard_compares_the_configurations(server, tmp_path):
    origins = Origins("digits", tmp_path)
    addresses = wandb_dashboard.save(origins, None, "vgg")
    assert [address.startswith("https://example.org/someone/vgg") for address in addresses] == [True, True]
    for kind in ("project-view", "runs"):
        spec = server.spec(kind)
        shown = panels(spec)
        depth = shown["Error against depth, by training scale"]["config"]
        q = shown["Error against the test scale Q, by net"]["config"]
        assert (depth["xAxis"], depth["metrics"]) == ("depth", ["dense_single/top1"])
        assert (depth["groupBy"], depth["groupAgg"]) == ("train_scale.value.name", "mean")
        assert (q["xAxis"], q["metrics"], q["groupBy"]) == ("q", ["dense_over_q/top1"], "cell.value")
        bars = shown["Top-1 error over several test scales, %"]["config"]
        assert bars["metrics"] == ["dense_multi/top1", "multicrop_multi/top1", "fused_multi/top1"]
        columns = [each["accessor"] for each in shown["Evaluated: dense, one test scale"]["config"]["columns"]]
        assert columns[:3] == ["config:model.value.name", "config:train_scale.value.name", "config:seed.value"]
        assert columns[3] == "summary:dense_single/top1"
        assert shown["Top-5 error, training and validation, %"]["config"]["metrics"][0] == "train/top5_error"
        whole = json.dumps(spec, ensure_ascii=False)
        assert '{"section": "config", "name": "dataset"}, "op": "=", "value": "digits"' in whole
        assert '"grouping": [{"section": "config", "name": "model.value.name"}' in whole
        for text in (tables.rendered(origins, "markdown"), claims.rendered(origins, "markdown")):
            assert json.dumps(text, ensure_ascii=False) in whole


def test_saving_again_updates_and_another_project_has_its_own(server, tmp_path):
    first = wandb_dashboard.save(Origins("digits", tmp_path), None, "vgg")
    assert wandb_dashboard.save(Origins("digits", tmp_path), "someone", "vgg") == first
    assert len(server.views) == 2
    assert len(wandb_dashboard.save(Origins("digits", tmp_path), None, "other")) == 2
    assert len(server.views) == 4
    with pytest.raises(UserError, match="someone has no project third"):
        wandb_dashboard.save(Origins("digits", tmp_path), None, "third")
    kept = json.loads((tmp_path / "digits/wandb-dashboard.json").read_text())
    assert kept["someone/vgg"] == dict(zip(("workspace", "report"), first, strict=True))


@pytest.mark.parametrize("kind", ["project-view", "runs"])
def test_what_was_deleted_in_wandb_is_named(kind, server, tmp_path):
    wandb_dashboard.save(Origins("digits", tmp_path), None, "vgg")
    server.views = {key: view for key, view in server.views.items() if view["type"] != kind}
    with pytest.raises(UserError, match=r"remove .*wandb-dashboard\.json"):
        wandb_dashboard.save(Origins("digits", tmp_path), None, "vgg")


def test_what_wandb_refuses_is_one_message(server, tmp_path, monkeypatch):
    from wandb.sdk.lib.service.service_connection import WandbApiFailedError
    from wandb_workspaces.workspaces import internal

    def refuse(*unused):
        raise WandbApiFailedError("permission denied")

    monkeypatch.setattr(internal, "execute_graphql", refuse)
    with pytest.raises(UserError, match="W&B failed: permission denied"):
        wandb_dashboard.save(Origins("digits", tmp_path), None, "vgg")
