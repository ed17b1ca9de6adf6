// Before anything is drawn: the theme chosen last time. Without a choice the page is as the system is.
{
    let theme = null;
    try {
        theme = localStorage.getItem('genarm.theme');
    } catch {
        // the browser keeps nothing for this site
    }
    if (theme === 'light' || theme === 'dark') document.documentElement.dataset.theme = theme;
}
