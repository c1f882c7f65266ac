"""The look of the HTML pages."""

STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 76rem; padding: 0 1rem; color: #222 }
h2 { font-size: 1.1rem; margin: 2rem 0 .5rem }
section { overflow-x: auto }
table { border-collapse: collapse; font-variant-numeric: tabular-nums }
th, td { padding: .15rem .7rem; border-bottom: 1px solid #ddd; text-align: right; white-space: nowrap }
th:first-child { text-align: left; font-weight: 500 }
i { display: inline-block; width: .8em; height: .8em; margin-right: .5em; border: 1px solid #888 }
img { display: block; max-width: 100%; margin: 1rem 0 }
pre { background: #f4f4f4; padding: .7rem 1rem }
.warnings { background: #fff6dd; padding: .2rem 1rem .6rem; border-left: 4px solid #e0a800 }
"""
