"""WSGI entry point, for hosts that serve pages without the live feed."""

import os

from django.core.wsgi import get_wsgi_application

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "chimera_site.settings")
application = get_wsgi_application()
