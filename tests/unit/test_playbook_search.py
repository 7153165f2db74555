"""Which requests are for the search box, and which only sound like it."""

from __future__ import annotations

import pytest

from tasks.agents.playbooks import recognition

PLAYBOOKS = recognition.load_all()

MEANT = [
    "Add a search box",
    "Search bar in the header, please",
    "Could we have a site search?",
    "Add search",
    "We need search!",
    "As a visitor I want a search field so that I can find things quickly",
    "Let people search the site",
    "Users should be able to search our website",
    "Make the site searchable",
    "a full-text search over all pages",
    "Search box at the top of every page that lists the matching pages",
    "A searchbar that shows a message when nothing matches",
    "Give readers a search form: typing a word and pressing Enter shows the results",
    "keyword search in the navbar",
    "I'd like to search all pages by keyword",
    "Search functionality with a clear message if there are no results",
    "SEARCH-BOX",
    "search bar pls",
    "A search box that lists matching pages and says when nothing is found",
    "Let me search the website",
    "The site needs a search function",
    "“Search” field in the header",
]

NEAR_MISSES = [
    "search by voice",
    "Search box with voice input",
    "job search page",
    "Remove the search box",
    "No search box",
    "Search users",
    "search for people",
    "Search box with autocomplete",
    "Search as you type",
    "A search page",
    "Search results page",
    "Search engine optimisation",
    "Search box in the footer",
    "Search by price",
    "Advanced search with filters",
    "Fuzzy search box",
    "Search box that uses Elasticsearch",
    "Search the web",
    "Image search",
    "Search history",
    "Save my search",
    "Search box and dark mode",
    "Research page",
    "Search and replace",
    "Highlight search terms",
    "Search only the books",
    "search 🔍 box",
    "",
    "search and rescue",
    "a search for meaning",
    "search party",
    "Search box for users",
    "search box for people",
    "Let users build a search box",
    "Search except the start page",
    "search instead of navigation",
    "Make search faster",
    "search my site for errors",
    "search our website for broken links",
    "Suche auf allen Seiten",
    "Search 10 results",
    "search bar with Google",
    "Find a store",
    "Search for a new owner",
    "Search without Enter",
]


@pytest.mark.parametrize("feature", MEANT)
def test_a_request_for_a_search_box_is_recognised(feature):
    found = recognition.recognise(feature, PLAYBOOKS)
    assert found is not None
    assert found.name == "search"


@pytest.mark.parametrize("feature", NEAR_MISSES)
def test_a_near_miss_is_refused(feature):
    assert recognition.recognise(feature, PLAYBOOKS) is None
