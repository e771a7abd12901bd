"""What the agent sees and does: records, views, tools and the episode loop; no torch."""
