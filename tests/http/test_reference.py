"""The page about the API names every route, field and header that the OpenAPI document has."""

from pathlib import Path

from starlette.testclient import TestClient

PAGE = (Path(__file__).parents[2] / "docs" / "reference" / "http-api.md").read_text("utf-8")


def test_every_route_has_a_section(client: TestClient) -> None:
    paths = client.get("/openapi.json").json()["paths"]
    routes = {f"{method.upper()} {path}" for path, methods in paths.items() for method in methods}

    headings = [line for line in PAGE.splitlines() if line.startswith(("## GET", "## POST", "## PUT"))]
    assert {line.removeprefix("## ") for line in headings} == routes


def test_every_field_and_parameter_is_named(client: TestClient) -> None:
    document = client.get("/openapi.json").json()

    for name, schema in document["components"]["schemas"].items():
        for field in schema["properties"]:
            assert f"`{field}`" in PAGE or f'"{field}"' in PAGE or name == "Problem", f"{name}.{field}"
    for path, methods in document["paths"].items():
        for operation in methods.values():
            for parameter in operation.get("parameters", []):
                assert parameter["name"].lower() in PAGE.lower(), f"{path} {parameter['name']}"
