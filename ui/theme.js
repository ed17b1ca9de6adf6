// Before anything is drawn: the theme chosen last time. Without a choice the page is as the system is.
{
    const theme = localStorage.getItem('genarm.theme');
    if (theme === 'light' || theme === 'dark') document.documentElement.dataset.theme = theme;
}
