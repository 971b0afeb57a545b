"""The machinery of families: typed reads of config.json, common attentions and heads, initialization, plugins."""
