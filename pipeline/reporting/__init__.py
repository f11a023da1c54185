"""The parts of the report: inputs, charts, sections, page. `pipeline.report` is the stage that uses them."""
