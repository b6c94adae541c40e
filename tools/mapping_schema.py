"""Write the JSON Schema of mapping files, for editors, from the language; `make schema` runs it."""

import json
from pathlib import Path
from typing import Any

from rd_import.mapping_language import A_RULE, LANGUAGE, ONE_OF, RULE, Key

SHIPPED = Path(__file__).parents[1] / "pipeline" / "rd_import" / "mapping.schema.json"


def written() -> str:
    """Give the file as it should stand."""
    return json.dumps(json_schema(), indent=2, ensure_ascii=False) + "\n"


def json_schema() -> dict[str, Any]:
    """Write the language as a JSON Schema, which editors complete and check by."""
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "rd-import mapping file",
        **_schema(LANGUAGE),
        "$defs": {
            "rule": {
                "description": A_RULE.about,
                "anyOf": [
                    {"type": "string", "minLength": 1},
                    {
                        "type": "object",
                        "properties": {name: _schema(key) for name, key in RULE.items()},
                        "additionalProperties": False,
                        "oneOf": [{"required": [name]} for name in ONE_OF],
                    },
                ],
            }
        },
    }


def _schema(key: Key) -> dict[str, Any]:
    kinds: dict[str, dict[str, Any]] = {
        "text": {"type": "string"},
        "texts": {"type": "array", "items": {"type": "string"}},
        "flag": {"type": "boolean"},
        "number": {"type": "number"},
        "place": {"type": "integer", "minimum": 1},
        "length": {"enum": [True, *key.options]},
        "words": {"type": "object", "additionalProperties": {"type": "string"}},
        "rule": {"$ref": "#/$defs/rule"},
        "rules": {"type": "array", "minItems": 1, "items": {"$ref": "#/$defs/rule"}},
        "any": {"type": "object", "additionalProperties": _schema(key.of) if key.of else True},
    }
    about = {"description": key.about} if key.kind != "rule" else {}
    if key.kind in {"table", "tables"}:
        table = {
            "type": "object",
            "properties": {name: _schema(one) for name, one in key.keys.items()},
            "additionalProperties": False,
        }
        if key.needs:
            table["required"] = list(key.needs)
        return {**about, **(table if key.kind == "table" else {"type": "array", "items": table})}
    options = {"enum": list(key.options)} if key.options and key.kind == "text" else {}
    return {**about, **kinds[key.kind], **options}


if __name__ == "__main__":
    SHIPPED.write_text(written(), encoding="utf-8")
