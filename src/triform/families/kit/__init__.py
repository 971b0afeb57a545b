"""What families are written with: typed reads of config.json, common attentions and heads, initialization, plugins."""
