"""Traditional recommenders over RecBole, and the floors."""
