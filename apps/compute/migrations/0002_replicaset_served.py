from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("compute", "0001_initial")]

    operations = [
        migrations.AddField(
            model_name="replicaset",
            name="served",
            field=models.BooleanField(
                default=False, help_text="a replica of it was ready once: it is never given up again"
            ),
        ),
    ]
